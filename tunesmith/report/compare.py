"""Models side by side: a table of rates with what each stage gained, and replies to the same instructions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tunesmith.text.visible import visible

NOTE = (
    "In brackets 95 % intervals: Wilson's for a rate; for a gain, in points over the stage that a model was trained from, "
    "Newcombe's for paired rates, as the same instructions were asked."
)


class Rate(Protocol):
    """A share with its uncertainty."""

    @property
    def successes(self) -> int: ...

    @property
    def total(self) -> int: ...

    @property
    def share(self) -> float: ...

    def interval(self) -> tuple[float, float]: ...


class Gain(Protocol):
    """The difference of two rates over the same trials, with its uncertainty."""

    @property
    def difference(self) -> float: ...

    def interval(self) -> tuple[float, float]: ...


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: a name, for every model a rate, and for those that were trained from another one their gain
    over it. strong: drawn with more weight."""

    name: str
    rates: Mapping[str, Rate]
    gains: Mapping[str, Gain] = field(default_factory=dict)
    strong: bool = False


@dataclass(frozen=True, slots=True)
class SideBySide:
    """One instruction with every model's reply. right: which models were right."""

    instruction: str
    context: str
    replies: Mapping[str, str]
    right: Mapping[str, bool]


def rate_table(rows: Sequence[Row], models: Sequence[str]) -> Table:
    """Shares in per cent over gains in points, each with its interval; 100 columns hold four models."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("", no_wrap=True)
    table.add_column("n", justify="right")
    for model in models:
        table.add_column(visible(model), justify="right")
    for row in rows:
        totals = {row.rates[model].total for model in models}
        number = " to ".join(map(str, sorted({min(totals), max(totals)})))
        table.add_row(Text(visible(row.name), _style(row)), Text(number, "dim"), *(_cell(row, each) for each in models))
    return table


def _style(row: Row) -> str:
    return "bold" if row.strong else ""


def _cell(row: Row, model: str) -> Text:
    """The rate and, on a line of its own, the gain; rows without weight in whole points."""
    rate, gain, digits = row.rates[model], row.gains.get(model), 1 if row.strong else 0
    share = f"{_number(rate.share, digits)}% {_ends(rate.interval())}"
    if gain is None:
        return Text(share, _style(row))
    points = f"\n{_number(gain.difference, digits, '+')} {_ends(gain.interval())}"
    return Text.assemble((share, _style(row)), (points, "dim"))


def _number(share: float, digits: int, sign: str = "-") -> str:
    """In per cent; all of it needs no digits behind the point."""
    return f"{100 * share:{sign}.{0 if abs(share) == 1 else digits}f}"


def _ends(interval: tuple[float, float]) -> str:
    low, high = (round(100 * end) for end in interval)
    return f"({low} to {high})"


def replies_side_by_side(samples: Sequence[SideBySide]) -> RenderableType:
    """Instruction, passage and what each model said, made harmless for the terminal."""
    return Group(*(block for sample in samples for block in _sample(sample)))


def _sample(sample: SideBySide) -> list[RenderableType]:
    blocks: list[RenderableType] = [Text(visible(sample.instruction), "bold")]
    if sample.context:
        blocks.append(Padding(Text(visible(sample.context), "dim"), (0, 0, 0, 2)))
    for model, reply in sample.replies.items():
        mark = ("right", "green") if sample.right[model] else ("wrong", "red")
        said = Text.assemble((f"{model}: ", "cyan"), visible(reply.strip()) or "(nothing)", "  ", mark)
        blocks.append(Padding(said, (0, 0, 0, 2)))
    return [*blocks, Text("")]


def show(console: Console, rows: Sequence[Row], samples: Sequence[SideBySide], models: Sequence[str]) -> None:
    """Print the table, how to read it, and the samples."""
    console.print(rate_table(rows, models))
    console.print(Padding(Text(NOTE, "dim"), (1, 0, 0, 0)))
    console.print()
    console.print(replies_side_by_side(samples))
