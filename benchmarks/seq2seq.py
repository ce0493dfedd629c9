"""An encoder-decoder beside transformers' Seq2SeqTrainer: ``python -m benchmarks.seq2seq --json FILE``.

Same random weights (the shape of T5 1.1, small), same records, float32, two CPU threads; every contender in a process of its
own, in alternating rounds. See README.md for what is counted.
"""

from __future__ import annotations

from benchmarks.contest import Contest, Rounds, main, medians, named


def compare(rounds: Rounds) -> dict[str, float]:
    """Medians over the rounds, and their ratios."""
    speed, memory = medians(rounds, "targets")
    return {
        "ratio": speed["ours"] / speed["trainer"],
        "ratio_grouped": speed["ours"] / speed["trainer_grouped"],
        "memory_ratio": memory["ours"] / memory["trainer"],
        **named(speed, memory, "targets"),
    }


CONTEST = Contest(
    about=__doc__,
    contenders={
        "ours": ("benchmarks.seq2seq_ours", "train"),
        "trainer": ("benchmarks.seq2seq_trainer", "default"),
        "trainer_grouped": ("benchmarks.seq2seq_trainer", "grouped"),
    },
    world="benchmarks.seq2seq_world",
    unit="targets",
    losses=("benchmarks.seq2seq_ours", "benchmarks.seq2seq_trainer"),
    packages=("torch", "transformers", "datasets", "accelerate"),
    compare=compare,
    shown=("ratio", "ratio_grouped", "memory_ratio", "loss_difference"),
)


if __name__ == "__main__":
    main(CONTEST)
