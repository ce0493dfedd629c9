"""A comparison in the terminal, in 80 columns: the numbers of every model, and what distinguishes every two."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from string import ascii_uppercase

from tunesmith.report.compare_statistics import ALL, MEASURES, ColumnDifference, ColumnSummary, Measure, ReplyColumn
from tunesmith.report.compared import Comparison
from tunesmith.report.paired import FEWEST_PROMPTS, PairedDifference

WIDTH = 80
HEADERS = (("replies", 8), ("ended", 6), ("length", 7), ("loops", 6), ("empty", 6), ("leaks", 6), ("reward", 8))

FORMS = {"length": ("+z,.0f", 1, ""), "ended": ("+z.1f", 100, " points")}
"""Name of a measure -> format of a difference, factor, unit; ``z`` writes no negative zero."""

NOTE = (
    "ended: share of replies that the model ended by itself (? where the report does not show it). length: mean "
    "characters. loops: the same words four times in a row or more. leaks: text of control tokens. Intervals: paired "
    "bootstrap over prompts, 95 % for all differences of two models together; `no difference shown` means that equal "
    "models may well give such numbers."
)


def comparison_lines(
    comparison: Comparison, summaries: Sequence[ColumnSummary], differences: Sequence[ColumnDifference]
) -> Iterator[str]:
    """The lines to print; nothing in them is escaped yet."""
    yield headline(comparison)
    for letter, model in zip(_letters(comparison), comparison.models, strict=True):
        yield _cut(f"  {letter}  {model.name}", WIDTH)
        yield _cut(f"     {model.file}", WIDTH - 12) + (f", {model.date[:10]}" if model.date else "")
        if remark := model.remark():
            yield f"     {remark}"
    headers = shown_headers(comparison)
    for title, rows in summary_tables(comparison, summaries):
        yield ""
        yield _row(title, [head for head, _ in headers], headers)
        yield from (_row(name, summary_cells(summary)[: len(headers)], headers) for name, summary in rows)
    if differences:
        yield ""
        yield from _difference_lines(comparison, differences)
    yield ""
    yield from textwrap.wrap(NOTE, WIDTH)


def measure_verdict(measure: Measure, difference: PairedDifference, second: str) -> str:
    """What is said about a difference. second: the name of the second model; may be empty."""
    if difference.prompts < FEWEST_PROMPTS:
        return "too few prompts"
    if not difference.is_shown:
        return "no difference shown"
    return f"{second} {measure.more if difference.mean > 0 else measure.less}".strip()


def difference_text(measure: Measure, difference: PairedDifference) -> str:
    """The mean difference and its interval, such as ``-425 (-489 to -361)``; shares in points."""
    form, scale, unit = FORMS.get(measure.name, ("+z.2f", 1, ""))
    numbers = [scale * each for each in (difference.mean, difference.low, difference.high)]
    mean, low, high = (f"{number:{form}}" for number in numbers)
    return f"{mean}{unit}" if difference.prompts < FEWEST_PROMPTS else f"{mean}{unit} ({low} to {high})"


def column_name(column: ReplyColumn) -> str:
    """The configuration of a column, or `all` for all of them."""
    return "all" if column.configuration == ALL else column.configuration


def headline(comparison: Comparison) -> str:
    """How many models and prompts there are, and how many prompts the models have in common."""
    count, common = len(comparison.prompts), comparison.shared_prompts()
    prompts = f"{count:,} prompt{'s' * (count != 1)}"
    if len(comparison.models) == 1:
        return f"1 model, {prompts}"
    shared = "all answered by every model" if common == count else f"{common:,} of them answered by every model"
    return f"{len(comparison.models)} models, {prompts}, {shared}"


def shown_headers(comparison: Comparison) -> Sequence[tuple[str, int]]:
    """The columns of the numbers with their widths; rewards only where there are some."""
    return HEADERS if comparison.reward_model else HEADERS[:-1]


def _letters(comparison: Comparison) -> list[str]:
    """A letter for every model; numbers where there are more models than letters."""
    count = len(comparison.models)
    return list(ascii_uppercase[:count]) if count <= len(ascii_uppercase) else [str(n + 1) for n in range(count)]


def _cut(text: str, width: int) -> str:
    """The text without its middle, if it is too long."""
    if len(text) <= width:
        return text
    half = (width - 2) // 2
    return f"{text[: width - 2 - half]}..{text[len(text) - half :]}"


def summary_tables(
    comparison: Comparison, summaries: Sequence[ColumnSummary]
) -> Iterator[tuple[str, list[tuple[str, ColumnSummary]]]]:
    """(title, rows with their names): a table for every configuration, or one table of the only model."""
    if len(comparison.models) == 1:
        yield comparison.models[0].label, [(summary.column.configuration, summary) for summary in summaries]
        return
    names = [f"{letter}  {model.label}" for letter, model in zip(_letters(comparison), comparison.models, strict=True)]
    for configuration in comparison.configurations:
        rows = [summary for summary in summaries if summary.column.configuration == configuration]
        yield configuration, [(names[summary.column.model], summary) for summary in rows]


def summary_cells(summary: ColumnSummary) -> tuple[str, ...]:
    """The cells of a row, below HEADERS."""
    return (
        f"{summary.replies:,}",
        "?" if summary.ended is None else f"{summary.ended:.0%}",
        f"{summary.length:,.0f}",
        *(_share(share) for share in (summary.loops, summary.empty, summary.control)),
        "" if summary.reward is None else _reward(summary.reward),
    )


def _row(name: str, cells: Sequence[str], headers: Sequence[tuple[str, int]]) -> str:
    space = WIDTH - sum(width for _, width in headers)
    shown = "".join(f"{cell:>{width}}" for cell, (_, width) in zip(cells, headers, strict=True))
    return f"{_cut(name, space - 1):{space}}{shown}".rstrip()


def _reward(mean: float) -> str:
    return f"{mean:.2f}" if abs(mean) < 1000 else f"{mean:,.0f}"


def _share(share: float) -> str:
    return "0" if not share else f"{share:.0%}" if share >= 0.005 else "<1%"


def _difference_lines(comparison: Comparison, differences: Sequence[ColumnDifference]) -> Iterator[str]:
    """The differences of every two models, below a line that names the models."""
    letters, above = _letters(comparison), ""
    for difference in differences:
        first, second = letters[difference.first.model], letters[difference.second.model]
        heading = f"{second} less {first}, on the same prompts"
        if len(comparison.models) == 1:
            heading = f"each configuration less {column_name(difference.first)}, on the same prompts"
        if heading != above:
            above = heading
            yield _cut(heading, WIDTH)
        yield from _measure_lines(difference, second if len(comparison.models) > 1 else "")


def _measure_lines(difference: ColumnDifference, second: str) -> Iterator[str]:
    start = _cut(column_name(difference.second), 11)
    if not difference.measures:
        yield f"  {start:11} no prompt in common"
    for measure in MEASURES:
        if measure.name in difference.measures:
            found = difference.measures[measure.name]
            numbers, verdict = difference_text(measure, found), measure_verdict(measure, found, second)
            yield f"  {start:11} {measure.name:6} {found.prompts:5,}  {numbers:31} {verdict}"
            start = ""
