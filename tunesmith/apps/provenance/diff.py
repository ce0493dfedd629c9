"""`tunesmith diff`: what distinguishes two runs, next to what has come out, and what can explain what."""

from __future__ import annotations

import json
import math
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from tunesmith.apps.provenance.differences import Difference, find_differences
from tunesmith.apps.provenance.effects import WORDS, effect_of, explains
from tunesmith.apps.provenance.outcomes import OutcomeRow, compare_outcomes
from tunesmith.apps.provenance.recorded_run import RecordedRun
from tunesmith.text.visible import visible

WIDTH = 80
LONGEST_VALUE = 50
DIGEST_LENGTH, SHOWN_DIGITS = 64, 12
COUNTS = ("data.report.", "validation.report.")
HEXADECIMAL = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class NumberedDifference:
    """One entry of the list: a difference, or several of which one has caused the others.

    number: from 1.
    parts: the differences; several are counts of the data.
    """

    number: int
    parts: Sequence[Difference]


@dataclass(frozen=True, slots=True)
class RunComparison:
    """Two runs.

    first, second: their directories.
    differences: causes first.
    outcomes: what has come out.
    """

    first: Path
    second: Path
    differences: Sequence[NumberedDifference]
    outcomes: Sequence[OutcomeRow]

    def explanations(self, row: OutcomeRow) -> list[int]:
        """The numbers of the differences that can explain that a metric is another one; none where it is the same."""
        if row.before == row.after:
            return []
        return [each.number for each in self.differences if any(explains(part, row.outcome) for part in each.parts)]


def run(first: Path, second: Path, *, as_json: bool = False, target: TextIO | None = None) -> None:
    """Compare two runs, and print it. as_json: as a JSON object. target: standard output by default.

    Raises MissingInputError (no run), DataError.
    """
    screen = target or sys.stdout
    found = compare_runs(first, second)
    if as_json:
        print(json.dumps(_as_json(found), indent=2, ensure_ascii=False, allow_nan=False), file=screen)
        return
    for line in lines(found):
        print(visible(line), file=screen)


def compare_runs(first: Path, second: Path) -> RunComparison:
    """All differences of two runs, and their metrics. Raises as ``run``."""
    runs = RecordedRun.read(first), RecordedRun.read(second)
    return RunComparison(first, second, list(_numbered(find_differences(*runs))), compare_outcomes(*runs))


def _numbered(differences: Sequence[Difference]) -> Iterator[NumberedDifference]:
    """All counts of the data are one entry."""
    counts = [each for each in differences if each.key.startswith(COUNTS)]
    entries = [[each] for each in differences if each not in counts]
    place = next((number for number, each in enumerate(differences) if each in counts), 0)
    if counts:
        entries.insert(place, counts)
    yield from (NumberedDifference(number, parts) for number, parts in enumerate(entries, 1))


def lines(found: RunComparison) -> Iterator[str]:
    """The comparison as text, at most 80 characters wide."""
    yield from _wrapped(f"A: {found.first}", 3)
    yield from _wrapped(f"B: {found.second}", 3)
    yield ""
    yield "what differs" if found.differences else "nothing that is recorded differs"
    for entry in found.differences:
        yield from _entry_lines(entry)
    yield ""
    yield "what has come out"
    for row in found.outcomes:
        yield from _outcome_lines(row, found)


def _entry_lines(entry: NumberedDifference) -> Iterator[str]:
    first = entry.parts[0]
    name = "the counts of the data" if first.key.startswith(COUNTS) else _title(first)
    yield from _wrapped(f"{entry.number:>3}  {name}", 5)
    for part in entry.parts:
        if part.key.startswith(COUNTS):
            yield from _wrapped(f"     {part.key.partition('.report.')[2]}: {part.before} -> {part.after}", 7)
            continue
        yield from _wrapped(f"     A: {_value(part.before, part.before_origin)}", 8)
        yield from _wrapped(f"     B: {_value(part.after, part.after_origin)}", 8)
    yield from _wrapped(f"     can affect: {WORDS[effect_of(first)]}", 7)


def _title(difference: Difference) -> str:
    return difference.key if difference.kind == "seed" else f"{difference.kind} {difference.key}"


def _value(text: str, origin: str) -> str:
    """A value with its origin; of a digest the first digits."""
    is_digest = len(text) == DIGEST_LENGTH and HEXADECIMAL.issuperset(text)
    short = f"{text[:SHOWN_DIGITS]}..." if is_digest else text
    short = short if len(short) <= LONGEST_VALUE else f"{short[: LONGEST_VALUE - 3]}..."
    return f"{short or '(none)'}{f' ({origin})' if origin else ''}"


def _outcome_lines(row: OutcomeRow, found: RunComparison) -> Iterator[str]:
    step = f", step {row.step:,}" if row.step else ""
    values = f"{_number(row.before, row.before_interval)} -> {_number(row.after, row.after_interval)}"
    if row.before == row.after:
        yield from _wrapped(
            f"     {row.outcome}: {row.name}{step}: {_number(row.before, row.before_interval)}, the same", 7
        )
        return
    yield from _wrapped(f"     {row.outcome}: {row.name}{step}: {values}", 7)
    if row.difference_interval is not None:
        low, high = row.difference_interval
        yield from _wrapped(f"       the difference on the prompts of both: 95 % interval {low:+.4g} to {high:+.4g}", 7)
    numbers = found.explanations(row)
    named = f"can be explained by {', '.join(map(str, numbers))}" if numbers else "nothing above can explain it"
    yield from _wrapped(f"       {named}", 7)


def _number(value: float | None, interval: tuple[float, float] | None) -> str:
    if value is None:
        return "(none)"
    return f"{value:.6g}" + (f" [{interval[0]:.4g}, {interval[1]:.4g}]" if interval is not None else "")


def _wrapped(text: str, indent: int) -> list[str]:
    """A line that is broken where it is too long, the rest indented."""
    start = text[: len(text) - len(text.lstrip())]
    return textwrap.wrap(
        text.lstrip(), WIDTH, initial_indent=start, subsequent_indent=" " * indent, break_on_hyphens=False
    )


def _as_json(found: RunComparison) -> dict[str, Any]:
    differences = [
        {"number": entry.number, **asdict(part), "effect": effect_of(part)}
        for entry in found.differences
        for part in entry.parts
    ]
    outcomes = [{**_finite(asdict(row)), "explained_by": found.explanations(row)} for row in found.outcomes]
    return {"runs": [str(found.first), str(found.second)], "differences": differences, "outcomes": outcomes}


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """JSON has no numbers that are not finite."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in values.items()
    }
