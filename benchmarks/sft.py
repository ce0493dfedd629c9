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
    },
    inputs="benchmarks.sft_inputs",
    unit="tokens",
    losses=("benchmarks.sft_tunesmith", "benchmarks.sft_trl"),
    packages=("torch", "transformers", "trl", "datasets", "accelerate"),
    speed_ratios={"ratio_default": "trl_default", "ratio_packing": "trl_packing"},
    memory_ratios={"memory_ratio": "trl_default"},
    further=gemm_share,
)


if __name__ == "__main__":
    main(COMPARISON)
