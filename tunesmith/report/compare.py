"""Two models side by side: a table of rates, and replies to the same instructions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tunesmith.text.visible import visible


class Rate(Protocol):
    """A share with its uncertainty."""

    @property
    def successes(self) -> int: ...

    @property
    def total(self) -> int: ...

    @property
    def share(self) -> float: ...

    def interval(self) -> tuple[float, float]: ...


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: a name, and for every model a rate. strong: drawn with more weight."""

    name: str
    rates: Mapping[str, Rate]
    strong: bool = False


@dataclass(frozen=True, slots=True)
class SideBySide:
    """One instruction with every model's reply. right: which models were right."""

    instruction: str
    context: str
    replies: Mapping[str, str]
    right: Mapping[str, bool]


def rate_table(rows: Sequence[Row], models: Sequence[str]) -> Table:
    """Shares in per cent with a 95 % interval."""
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="dim")
    table.add_column("")
    for model in models:
        table.add_column(model, justify="right")
    for row in rows:
        cells = [Text(_percent(row.rates[model]), "bold" if row.strong else "") for model in models]
        table.add_row(Text(visible(row.name), "bold" if row.strong else ""), *cells)
    return table


def _percent(rate: Rate) -> str:
    low, high = rate.interval()
    return f"{rate.share:.1%}  ({low:.0%} to {high:.0%}, n={rate.total})"


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
    """Print the table and the samples."""
    console.print(rate_table(rows, models))
    console.print()
    console.print(replies_side_by_side(samples))
