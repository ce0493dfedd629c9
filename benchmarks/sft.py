"""Supervised fine-tuning compared with TRL's SFTTrainer: ``python -m benchmarks.sft --json FILE``.

Same random weights (the shape of Pythia-31m), same records, completion-only loss, float32, two CPU threads; every
runner in a separate process, in alternating rounds. README.md says what is counted.
"""

from __future__ import annotations

import statistics

from benchmarks.comparison import OURS, Comparison, Rounds, main


def gemm_share(rounds: Rounds) -> dict[str, float]:
    """Our useful operations per second, as a share of those of a matrix product."""
    details = [each["details"] for each in rounds[OURS]]
    shares = [each["operations_per_second"] / each["multiplication_rate"] for each in details]
    return {"gemm_share": statistics.median(shares)}


COMPARISON = Comparison(
    about=__doc__,
    runners={
        OURS: ("benchmarks.sft_tunesmith", "train"),
        "trl_default": ("benchmarks.sft_trl", "default"),
        "trl_packing": ("benchmarks.sft_trl", "packing"),
        "trl_kept": ("benchmarks.sft_trl", "kept"),
        "trl_grouped": ("benchmarks.sft_trl", "grouped"),
        "trl_one_by_one": ("benchmarks.sft_trl", "one_by_one"),
        "trl_kept_packing": ("benchmarks.sft_trl", "kept_packing"),
        "trl_padding_free": ("benchmarks.sft_trl", "padding_free"),
    },
    inputs="benchmarks.sft_inputs",
    unit="tokens",
    losses=("benchmarks.sft_tunesmith", "benchmarks.sft_trl"),
    packages=("torch", "transformers", "trl", "datasets", "accelerate"),
    speed_ratios={
        "ratio_default": "trl_default",
        "ratio_packing": "trl_packing",
        "ratio_kept": "trl_kept",
        "ratio_grouped": "trl_grouped",
        "ratio_one_by_one": "trl_one_by_one",
        "ratio_kept_packing": "trl_kept_packing",
        "ratio_padding_free": "trl_padding_free",
    },
    memory_ratios={"memory_ratio": "trl_default"},
    further=gemm_share,
)


if __name__ == "__main__":
    main(COMPARISON)
