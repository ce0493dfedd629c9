"""What the models of the demo reply to the held-out instructions, and how much of it is right, courteous, and ended."""

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
SHOWN = 3


@dataclass(frozen=True, slots=True)
class Answers:
    """One model's replies to the held-out exercises, in their order. right: by content, whatever their tone."""

    replies: tuple[GeneratedReply, ...]
    right: tuple[bool, ...]

    def courteous(self) -> tuple[bool, ...]:
        return tuple(is_courteous(reply.text) for reply in self.replies)

    def both(self) -> tuple[bool, ...]:
        return tuple(right and polite for right, polite in zip(self.right, self.courteous(), strict=True))

    def stopped(self) -> tuple[bool, ...]:
        return tuple(reply.stopped for reply in self.replies)


def ask(console: Console, name: str, export: Path, exercises: Sequence[Exercise]) -> Answers:
    """Greedy replies. Each model gets the instruction in the format it was trained with; for the base that is plain text."""
    engine, sampling = open_engine(export)
    prompts = [[Message("user", each.instruction, context=each.context)] for each in exercises]
    replies: dict[int, GeneratedReply] = {}
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"asking the {name} model", total=len(prompts))
        for index, reply in engine.completions(prompts, sampling, seed=0, batch_size=32):
            replies[index] = reply
            bar.advance(task)
    ordered = tuple(replies[index] for index in range(len(prompts)))
    right = tuple(passes(in_any_tone(each.check), reply.text) for each, reply in zip(exercises, ordered, strict=True))
    return Answers(ordered, right)


def rows(
    exercises: Sequence[Exercise], answers: Mapping[str, Answers], before: Mapping[str, str | None]
) -> list[ComparisonRow]:
    """The table of all models. before: for each of them the one that it was trained from, if any."""

    def row(name: str, outcomes: Callable[[Answers], Sequence[bool]], *, strong: bool = True) -> ComparisonRow:
        found = {model: outcomes(each) for model, each in answers.items()}
        gains = {
            model: Gain.between(found[origin], outcome)
            for model, outcome in found.items()
            if (origin := before[model]) is not None
        }
        return ComparisonRow(
            name, {model: Rate(sum(outcome), len(outcome)) for model, outcome in found.items()}, gains, strong
        )

    def of(category: str) -> Callable[[Answers], Sequence[bool]]:
        return lambda each: [
            right for right, asked in zip(each.right, exercises, strict=True) if asked.category == category
        ]

    categories = sorted({each.category for each in exercises})
    return [
        row(EXACT, lambda each: each.right),
        *(row(f" {category}", of(category), strong=False) for category in categories),
        row(COURTEOUS, Answers.courteous),
        row(BOTH, Answers.both),
        row(STOPPED, Answers.stopped),
    ]


def samples(exercises: Sequence[Exercise], answers: Mapping[str, Answers]) -> list[ReplyComparison]:
    """The first held-out exercise of some categories, whatever was answered."""
    first: dict[str, int] = {}
    for index, each in enumerate(exercises):
        first.setdefault(each.category, index)
    return [
        ReplyComparison(
            exercises[index].instruction,
            exercises[index].context,
            {model: each.replies[index].text for model, each in answers.items()},
            {model: each.right[index] for model, each in answers.items()},
        )
        for index in list(first.values())[:SHOWN]
    ]
