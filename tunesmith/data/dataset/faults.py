"""What is wrong with the data, gathered before anything is said: the first places, and how often each kind occurs.

Bad rows stop everything, or go to a quarantine file: one JSON line for each, with its place, the fault and the row.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

from tunesmith.errors import DataError

SHOWN = 20
KINDS_SHOWN = 5
LONGEST = 400  # characters of a fault, and of the advice
PARTICULARS = re.compile(r"'[^']*'|\"[^\"]*\"|\d[\d,]*")  # names and numbers, which differ between faults of one kind
QUARANTINE = "quarantine.jsonl"


@dataclass(frozen=True, slots=True)
class BadRows:
    """skip: leave bad rows out; otherwise the first of them stops everything. most: how many may be left out, a number or
    a share of all rows."""

    skip: bool = False
    most: int | float = 0

    def allows(self, bad: int, rows: int) -> bool:
        """Whether so many bad rows may be left out."""
        most = self.most if isinstance(self.most, int) else math.floor(rows * Fraction(repr(self.most)))
        return bad <= (most if self.skip else 0)


STRICT = BadRows()


class Fault(NamedTuple):
    """What is wrong with one row, in the parts of a DataError.

    number: counts all rows of all sources. source: its number. row: what was read, if it could be parsed. final: nothing
    after it can be read, so it is more than one row that is lost.
    """

    number: int
    source: int
    what: str
    where: str | None
    advice: str | None
    row: Any = None
    final: bool = False

    def error(self) -> DataError:
        return DataError(self.what, where=self.where, advice=self.advice)

    def line(self) -> bytes:
        """For the quarantine file."""
        entry = {"place": self.where, "reason": self.what, "advice": self.advice}
        if self.row is not None:
            entry["row"] = _plain(self.row)
        return json.dumps(entry, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace") + b"\n"


def _plain(value: Any) -> Any:
    """The same as JSON knows it; what it does not know (dates, bytes, numbers that are not finite) as text."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return str(value)


def one_line(text: str, longest: int = LONGEST) -> str:
    """A text that may quote foreign data, fit for a terminal: printable characters, and no more than ``longest``."""
    shown = text if len(text) <= longest else f"{text[: longest - 4]} ..."
    return shown if shown.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in shown)


class Faults:
    """Counts all faults and keeps the first, in the order of the rows."""

    def __init__(self, policy: BadRows) -> None:
        self.policy = policy
        self.first: list[Fault] = []
        self.kinds: Counter[str] = Counter()
        self.final: Fault | None = None

    @property
    def hopeless(self) -> bool:
        """Whether it is sure already that nothing can be kept."""
        return self.final is not None or (bool(self.first) and not self.policy.skip)

    def add(self, faults: Iterable[Fault]) -> None:
        """Take note of some faults, which come in the order of the rows."""
        for fault in faults:
            if len(self.first) < SHOWN:
                self.first.append(fault)
            self.kinds[PARTICULARS.sub("..", fault.what)] += 1
            if fault.final and self.final is None:
                self.final = fault

    def check(self, rows: int) -> None:
        """Raises DataError if there are more faults than the policy allows: the one, or a list of the first 20 with the
        number of all. rows: how many there were in all."""
        count = self.kinds.total()
        if self.final is not None and self.policy.skip:
            raise self.final.error()
        if self.final is None and self.policy.allows(count, rows):
            return
        if count == 1 and not self.policy.skip:
            raise self.first[0].error()
        heading = f"{count:,} records cannot be used, and nothing was kept:"
        if self.policy.skip:
            most = f"data.max_bad is {self.policy.most:g}"
            heading = f"{count:,} of {rows:,} records cannot be used ({most}), and nothing was kept:"
        lines = [heading, *(str(fault.error()) for fault in self.first)]
        if count > SHOWN:
            kinds = ", ".join(f"{kind} ({number:,})" for kind, number in self.kinds.most_common(KINDS_SHOWN))
            lines.append(f"... and {count - SHOWN:,} more; most frequent: {kinds}")
        raise DataError("\n  ".join(lines), advice="mend or remove these records")
