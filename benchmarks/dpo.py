"""Direct preference optimization beside TRL's DPOTrainer: ``python -m benchmarks.dpo --json FILE``.

Same random weights (the shape of Pythia-31m), same pairs, float32, two CPU threads; every contender in a process of its own, in
alternating rounds. The passes of the reference are counted on both sides. See README.md for what is counted.
"""

from __future__ import annotations

from benchmarks.contest import Contest, Rounds, main, medians, named


def compare(rounds: Rounds) -> dict[str, float]:
    """Medians over the rounds, and their ratios."""
    speed, memory = medians(rounds, "pairs")
    return {
        "ratio": speed["ours"] / speed["trl_default"],
        "ratio_precomputed": speed["ours"] / speed["trl_precomputed"],
        "memory_ratio": memory["ours"] / memory["trl_default"],
        "memory_ratio_precomputed": memory["ours"] / memory["trl_precomputed"],
        **named(speed, memory, "pairs"),
    }


CONTEST = Contest(
    about=__doc__,
    contenders={
        "ours": ("benchmarks.dpo_ours", "train"),
        "trl_default": ("benchmarks.dpo_trl", "default"),
        "trl_precomputed": ("benchmarks.dpo_trl", "precomputed"),
    },
    world="benchmarks.dpo_world",
    unit="pairs",
    losses=("benchmarks.dpo_ours", "benchmarks.dpo_trl"),
    packages=("torch", "transformers", "trl", "datasets", "accelerate"),
    compare=compare,
    shown=("ratio", "ratio_precomputed", "memory_ratio", "memory_ratio_precomputed", "loss_difference"),
    form="UltraFeedback's binarized form (prompt, chosen, rejected as texts)",
    records=32,  # a step of the peer takes most of a minute
    rounds=2,
)


if __name__ == "__main__":
    main(CONTEST)
