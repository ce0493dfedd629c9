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
COUNTS = "data.report."
HEXADECIMAL = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class NumberedDifference:
    """One entry of the list: a difference, with those that follow from it.

    number: from 1.
    parts: the differences; further ones are the keys that only one kind of a section has, or the counts of the data.
    """

    number: int
    parts: Sequence[Difference]

    @property
    def affects(self) -> bool:
        """Whether it can explain anything."""
        return any(effect_of(part) != "nothing" for part in self.parts)


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
        if row.is_same:
            return []
        return [each.number for each in self.differences if any(explains(part, row.outcome) for part in each.parts)]


def run(first: Path, second: Path, *, as_json: bool = False, target: TextIO | None = None) -> None:
    """Compare two runs, and print it. as_json: as a JSON object. target: standard output by default.

    Raises MissingInputError (no run), DataError.
    """
    screen = target or sys.stdout
    found = compare_runs(first, second)
    if as_json:
        # ASCII: half a character cannot be printed, and others move the cursor of a terminal.
        print(json.dumps(_as_json(found), indent=2, allow_nan=False), file=screen)
        return
    for line in lines(found):
        print(line, file=screen)


def compare_runs(first: Path, second: Path) -> RunComparison:
    """All differences of two runs, and their metrics. Raises as ``run``."""
    runs = RecordedRun.read(first), RecordedRun.read(second)
    return RunComparison(first, second, list(_numbered(find_differences(*runs))), compare_outcomes(*runs))


def _numbered(differences: Sequence[Difference]) -> Iterator[NumberedDifference]:
    """Entries by their causes: what affects nothing comes last."""
    groups: dict[str, list[Difference]] = {}
    kinds = [each.key.removesuffix("kind") for each in differences if each.key.endswith(".kind")]
    for each in differences:
        section = next((kind for kind in kinds if each.key.startswith(kind) and not (each.before and each.after)), None)
        group = COUNTS if each.key.startswith(COUNTS) else f"{section}kind" if section else each.key
        groups.setdefault(f"{each.kind} {group}", []).append(each)
    entries = [NumberedDifference(0, parts) for parts in groups.values()]
    for number, entry in enumerate(sorted(entries, key=lambda each: not each.affects), 1):
        yield NumberedDifference(number, entry.parts)


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
    same = [row for row in found.outcomes if row.is_same]
    for row in found.outcomes:
        if not row.is_same:
            yield from _outcome_lines(row, found)
    if same:
        names = ", ".join(f"{_row_name(row)} {_number(row.before, row.before_interval)}" for row in same)
        yield from _wrapped(f"     the same: {names}", 7)


def _entry_lines(entry: NumberedDifference) -> Iterator[str]:
    first, *others = entry.parts
    is_count = first.key.startswith(COUNTS)
    yield from _wrapped(f"{entry.number:>3}  {'the counts of the data' if is_count else first.title}", 5)
    if not is_count:
        yield from _wrapped(f"     A: {_value(first.before, first.before_origin)}", 8)
        yield from _wrapped(f"     B: {_value(first.after, first.after_origin)}", 8)
    for part in entry.parts if is_count else others:
        name = part.key.partition(".report.")[2] if is_count else part.key
        yield from _wrapped(f"     {name}: {_value(part.before, '')} -> {_value(part.after, '')}", 7)
    yield from _wrapped(f"     can affect: {WORDS[effect_of(first)]}", 7)


def _value(text: str, origin: str) -> str:
    """A value with its origin; of a digest the first digits."""
    is_digest = len(text) == DIGEST_LENGTH and HEXADECIMAL.issuperset(text)
    short = f"{text[:SHOWN_DIGITS]}..." if is_digest else text
    short = short if len(short) <= LONGEST_VALUE else f"{short[: LONGEST_VALUE - 3]}..."
    return f"{short or '(none)'}{f' ({origin})' if origin else ''}"


def _outcome_lines(row: OutcomeRow, found: RunComparison) -> Iterator[str]:
    before, after = _number(row.before, row.before_interval), _number(row.after, row.after_interval)
    yield from _wrapped(f"     {_row_name(row)}: {before} -> {after}", 7)
    if row.difference_interval is not None:
        low, high = row.difference_interval
        yield from _wrapped(f"       the difference on the prompts of both: 95 % interval {low:+.4g} to {high:+.4g}", 7)
    numbers = found.explanations(row)
    named = f"can be explained by {_ranges(numbers)}" if numbers else "nothing above can explain it"
    yield from _wrapped(f"       {named}", 7)


def _row_name(row: OutcomeRow) -> str:
    name = row.name if row.outcome in ("best", "speed") else f"{row.outcome} {row.name}"
    return f"{name} at step {row.step:,}" if row.step else name


def _ranges(numbers: Sequence[int]) -> str:
    """1, 2, 3, 5 -> ``1-3, 5``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(each[0]) if len(each) == 1 else f"{each[0]}-{each[-1]}" for each in runs)


def _number(value: float | None, interval: tuple[float, float] | None) -> str:
    if value is None:
        return "(none)"
    return f"{value:.6g}" + (f" [{interval[0]:.4g}, {interval[1]:.4g}]" if interval is not None else "")


def _wrapped(text: str, indent: int) -> list[str]:
    """A line without control characters that is broken where it is too long, the rest indented."""
    text = visible(text)
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
