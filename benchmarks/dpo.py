"""Direct preference optimization compared with TRL's DPOTrainer: ``python -m benchmarks.dpo --json FILE``.

Same random weights (the shape of Pythia-31m), same pairs, float32, two CPU threads; every runner in a separate
process, in alternating rounds. The forward passes of the reference are counted on both sides. README.md says what is
counted.
"""

from __future__ import annotations

from benchmarks.comparison import OURS, Comparison, main

COMPARISON = Comparison(
    about=__doc__,
    runners={
        OURS: ("benchmarks.dpo_tunesmith", "train"),
        "trl_default": ("benchmarks.dpo_trl", "default"),
        "trl_precomputed": ("benchmarks.dpo_trl", "precomputed"),
        "trl_kept": ("benchmarks.dpo_trl", "kept"),
        "trl_grouped": ("benchmarks.dpo_trl", "grouped"),
        "trl_one_by_one": ("benchmarks.dpo_trl", "one_by_one"),
    },
    inputs="benchmarks.dpo_inputs",
    unit="pairs",
    losses=("benchmarks.dpo_tunesmith", "benchmarks.dpo_trl"),
    packages=("torch", "transformers", "trl", "datasets", "accelerate"),
    speed_ratios={
        "ratio": "trl_default",
        "ratio_precomputed": "trl_precomputed",
        "ratio_kept": "trl_kept",
        "ratio_grouped": "trl_grouped",
        "ratio_one_by_one": "trl_one_by_one",
    },
    memory_ratios={"memory_ratio": "trl_default", "memory_ratio_precomputed": "trl_precomputed"},
    data_format="UltraFeedback's binarized format (prompt, chosen, rejected as texts)",
    records=32,  # a step of TRL takes most of a minute
    rounds=2,
)


if __name__ == "__main__":
    main(COMPARISON)
