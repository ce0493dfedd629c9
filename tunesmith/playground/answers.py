"""The replies of the demo's models to held-out instructions: how many are correct, courteous and complete."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from tunesmith.evaluate.text_match import passes
from tunesmith.generate.engine import GeneratedReply
from tunesmith.generate.export_directory import open_engine
from tunesmith.playground.courtesy import in_any_tone, is_courteous
from tunesmith.playground.exercises import Exercise
from tunesmith.report.compare import ComparisonRow, ReplyComparison
from tunesmith.report.intervals import Gain, Rate
from tunesmith.text.tree import Message

EXACT, COURTEOUS, BOTH = "exact answers", "courteous replies", "exact and courteous"
STOPPED = "stopped by themselves"
RIGHT_SHOWN, WRONG_SHOWN = 3, 2
"""Number of questions shown at the end that the last model answers, and that it does not."""


@dataclass(frozen=True, slots=True)
class HeldOutReplies:
    """One model's replies to the held-out exercises, in their order.

    replies: the replies.
    right: whether the content of each reply is correct, in any tone.
    """

    replies: tuple[GeneratedReply, ...]
    right: tuple[bool, ...]

    def courteous(self) -> tuple[bool, ...]:
        """Whether each reply is courteous."""
        return tuple(is_courteous(reply.text) for reply in self.replies)

    def both(self) -> tuple[bool, ...]:
        """Whether each reply is correct and courteous."""
        return tuple(right and polite for right, polite in zip(self.right, self.courteous(), strict=True))

    def stopped(self) -> tuple[bool, ...]:
        """Whether the model ended each reply."""
        return tuple(reply.stopped for reply in self.replies)


def generate_replies(console: Console, name: str, export: Path, exercises: Sequence[Exercise]) -> HeldOutReplies:
    """Greedy replies of an exported model, in the prompt format of its training (plain text for the base model)."""
    engine, sampling = open_engine(export)
    prompts = [[Message("user", each.instruction, context=each.context)] for each in exercises]
    replies: dict[int, GeneratedReply] = {}
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"generating replies of {name}", total=len(prompts))
        for index, reply in engine.completions(prompts, sampling, seed=0, batch_size=32):
            replies[index] = reply
            bar.advance(task)
    ordered = tuple(replies[index] for index in range(len(prompts)))
    right = tuple(passes(in_any_tone(each.check), reply.text) for each, reply in zip(exercises, ordered, strict=True))
    return HeldOutReplies(ordered, right)


def comparison_rows(
    exercises: Sequence[Exercise], answers: Mapping[str, HeldOutReplies], before: Mapping[str, str | None]
) -> list[ComparisonRow]:
    """The table of all models.

    exercises: the held-out exercises.
    answers: model -> its replies.
    before: model -> the model from which its training started, if it is compared with one.
    """

    def row(name: str, outcomes: Callable[[HeldOutReplies], Sequence[bool]], *, strong: bool = True) -> ComparisonRow:
        found = {model: outcomes(each) for model, each in answers.items()}
        gains = {
            model: Gain.between(found[origin], outcome)
            for model, outcome in found.items()
            if (origin := before[model]) is not None
        }
        return ComparisonRow(
            name, {model: Rate(sum(outcome), len(outcome)) for model, outcome in found.items()}, gains, strong
        )

    def right_in(category: str) -> Callable[[HeldOutReplies], Sequence[bool]]:
        return lambda each: [
            right for right, asked in zip(each.right, exercises, strict=True) if asked.category == category
        ]

    categories = sorted({each.category for each in exercises})
    return [
        row(EXACT, lambda each: each.right),
        *(row(f" {category}", right_in(category), strong=False) for category in categories),
        row(COURTEOUS, HeldOutReplies.courteous),
        row(BOTH, HeldOutReplies.both),
        row(STOPPED, HeldOutReplies.stopped),
    ]


def sample_replies(
    exercises: Sequence[Exercise], answers: Mapping[str, HeldOutReplies]
) -> dict[str, list[ReplyComparison]]:
    """Heading -> replies of all models to some held-out exercises that the last model answers, and that it does not.

    They are the first ones of different categories, those with a passage first, because it shows what the model reads.
    """
    last = list(answers)[-1]
    right = answers[last].right
    order = sorted(range(len(exercises)), key=lambda index: not exercises[index].context)

    def chosen(outcome: bool, count: int) -> list[ReplyComparison]:
        first: dict[str, int] = {}
        found = [index for index in order if right[index] is outcome]
        for index in found:
            first.setdefault(exercises[index].category, index)
        others = [index for index in found if index not in first.values()]
        return [_comparison(exercises, answers, index) for index in [*first.values(), *others][:count]]

    return {
        f"Questions that {last} answers": chosen(True, RIGHT_SHOWN),
        f"Questions that {last} does not answer": chosen(False, WRONG_SHOWN),
    }


def _comparison(exercises: Sequence[Exercise], answers: Mapping[str, HeldOutReplies], index: int) -> ReplyComparison:
    """The replies of all models to one exercise."""
    return ReplyComparison(
        exercises[index].instruction,
        exercises[index].context,
        {model: each.replies[index].text for model, each in answers.items()},
        {model: each.right[index] for model, each in answers.items()},
    )


def describe_effects(table: Sequence[ComparisonRow], goals: Mapping[str, str]) -> list[str]:
    """One line for each model: first what its training was for, then what it cost.

    table: the rows of ``comparison_rows``.
    goals: model -> name of the row that its training was to raise.
    """
    rows = {row.name: row for row in table}

    def change(row: ComparisonRow, model: str) -> str:
        gain, after = row.gains[model], row.rates[model].share
        return f"{row.name} {after - gain.difference:.1%} -> {after:.1%}"

    lines = []
    for model, goal in goals.items():
        line = f"{model}: {change(rows[goal], model)}"
        others = [change(rows[name], model) for name in (EXACT,) if name != goal]
        lines.append("; and its side effect: ".join([line, *others]))
    return lines
