"""Supervised fine-tuning beside TRL's SFTTrainer: ``python -m benchmarks.sft --json FILE``.

Same random weights (the shape of Pythia-31m), same records, completion-only loss, float32, two CPU threads; every
contender in a process of its own, in alternating rounds. See README.md for what is counted.
"""

from __future__ import annotations

import statistics

from benchmarks.contest import Contest, Rounds, main, medians, named


def compare(rounds: Rounds) -> dict[str, float]:
    """Medians over the rounds, and their ratios."""
    speed, memory = medians(rounds, "tokens")
    shares = [
        each["details"]["operations_per_second"] / each["details"]["multiplication_rate"] for each in rounds["ours"]
    ]
    return {
        "ratio_default": speed["ours"] / speed["trl_default"],
        "ratio_packing": speed["ours"] / speed["trl_packing"],
        "memory_ratio": memory["ours"] / memory["trl_default"],
        "gemm_share": statistics.median(shares),
        **named(speed, memory, "tokens"),
    }


CONTEST = Contest(
    about=__doc__,
    contenders={
        "ours": ("benchmarks.sft_ours", "train"),
        "trl_default": ("benchmarks.sft_trl", "default"),
        "trl_packing": ("benchmarks.sft_trl", "packing"),
    },
    world="benchmarks.world",
    unit="tokens",
    losses=("benchmarks.sft_ours", "benchmarks.sft_trl"),
    packages=("torch", "transformers", "trl", "datasets", "accelerate"),
    compare=compare,
    shown=("ratio_default", "ratio_packing", "memory_ratio", "gemm_share", "loss_difference"),
)


if __name__ == "__main__":
    main(CONTEST)
