"""Comparison of models: a table of success rates and gains, and their replies to the same instructions side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tunesmith.report.intervals import Gain, Rate
from tunesmith.text.visible import visible

NOTE = (
    "Upper line: the share in per cent and its 95 % confidence interval (Wilson). Lower line: the difference in points "
    "from the model that it was trained from, on the same n instructions, and its interval (Newcombe, paired)."
)


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """One row of the table.

    name: what is counted.
    rates: model -> its success rate.
    gains: model -> its gain over the model it was trained from; only for models that were.
    strong: whether the row is printed in bold, with one decimal place.
    """

    name: str
    rates: Mapping[str, Rate]
    gains: Mapping[str, Gain] = field(default_factory=dict)
    strong: bool = False


@dataclass(frozen=True, slots=True)
class ReplyComparison:
    """The replies of all models to one instruction.

    instruction: the text of the instruction.
    context: the passage it refers to; may be empty.
    replies: model -> its reply.
    right: model -> whether its reply is right.
    """

    instruction: str
    context: str
    replies: Mapping[str, str]
    right: Mapping[str, bool]


def rate_table(rows: Sequence[ComparisonRow], models: Sequence[str]) -> Table:
    """Rates in per cent, below them gains in points, each with its interval; 80 columns hold four models."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("", no_wrap=True)
    table.add_column("n", justify="right")
    for model in models:
        table.add_column(visible(model), justify="right")
    for row in rows:
        totals = {row.rates[model].total for model in models}
        number = " to ".join(map(str, sorted({min(totals), max(totals)})))
        table.add_row(Text(visible(row.name), _style(row)), Text(number, "dim"), *(_cell(row, each) for each in models))
    return table


def _style(row: ComparisonRow) -> str:
    return "bold" if row.strong else ""


def _cell(row: ComparisonRow, model: str) -> Text:
    """The rate and, on a second line, the gain; without decimal places in rows that are not strong."""
    rate, gain, digits = row.rates[model], row.gains.get(model), 1 if row.strong else 0
    share = f"{_per_cent(rate.share, digits)}% {_bounds(rate.interval())}"
    if gain is None:
        return Text(share, _style(row))
    points = f"\n{_per_cent(gain.difference, digits, '+')} {_bounds(gain.interval())}"
    return Text.assemble((share, _style(row)), (points, "dim"))


def _per_cent(share: float, digits: int, sign: str = "-") -> str:
    """The share in per cent; without decimal places where it is 1 or -1, which keeps the table narrow."""
    return f"{100 * share:{sign}.{0 if abs(share) == 1 else digits}f}"


def _bounds(interval: tuple[float, float]) -> str:
    low, high = (round(100 * bound) for bound in interval)
    return f"{low}..{high}"


def replies_side_by_side(samples: Sequence[ReplyComparison]) -> RenderableType:
    """For each instruction its context and the reply of every model; control characters are written out."""
    return Group(*(block for sample in samples for block in _sample(sample)))


def _sample(sample: ReplyComparison) -> list[RenderableType]:
    blocks: list[RenderableType] = [Text(visible(sample.instruction), "bold")]
    if sample.context:
        blocks.append(Padding(Text(visible(sample.context), "dim"), (0, 0, 0, 2)))
    for model, reply in sample.replies.items():
        mark = ("right", "green") if sample.right[model] else ("wrong", "red")
        line = Text.assemble((f"{model}: ", "cyan"), visible(reply.strip()) or "(no text)", "  ", mark)
        blocks.append(Padding(line, (0, 0, 0, 2)))
    return [*blocks, Text("")]


def print_comparison(
    console: Console,
    rows: Sequence[ComparisonRow],
    samples: Mapping[str, Sequence[ReplyComparison]],
    models: Sequence[str],
) -> None:
    """Print the table, a note on how to read it, and the samples.

    samples: heading -> the replies below it; a heading without replies is left out.
    """
    console.print(rate_table(rows, models))
    console.print(Padding(Text(NOTE, "dim"), (1, 0, 0, 0)))
    for heading, found in samples.items():
        if found:
            console.print(Padding(Text(heading, "bold underline"), (1, 0)))
            console.print(replies_side_by_side(found))
