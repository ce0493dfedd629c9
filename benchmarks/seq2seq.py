"""An encoder-decoder compared with transformers' Seq2SeqTrainer: ``python -m benchmarks.seq2seq --json FILE``.

Same random weights (the shape of T5 1.1, small), same records, float32, two CPU threads; every runner in a separate
process, in alternating rounds. README.md says what is counted.
"""

from __future__ import annotations

from benchmarks.comparison import OURS, Comparison, main

COMPARISON = Comparison(
    about=__doc__,
    runners={
        OURS: ("benchmarks.seq2seq_tunesmith", "train"),
        "trainer": ("benchmarks.seq2seq_trainer", "default"),
        "trainer_grouped": ("benchmarks.seq2seq_trainer", "grouped"),
        "trainer_grouped_by_two": ("benchmarks.seq2seq_trainer", "grouped_by_two"),
        "trainer_one_by_one": ("benchmarks.seq2seq_trainer", "one_by_one"),
    },
    inputs="benchmarks.seq2seq_inputs",
    unit="targets",
    losses=("benchmarks.seq2seq_tunesmith", "benchmarks.seq2seq_trainer"),
    packages=("torch", "transformers", "datasets", "accelerate"),
    speed_ratios={
        "ratio": "trainer",
        "ratio_grouped": "trainer_grouped",
        "ratio_grouped_by_two": "trainer_grouped_by_two",
        "ratio_one_by_one": "trainer_one_by_one",
    },
    memory_ratios={"memory_ratio": "trainer"},
)


if __name__ == "__main__":
    main(COMPARISON)
