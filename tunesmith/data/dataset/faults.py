"""Rows that cannot be used: all are collected, and one error has the first places and the most frequent kinds.

Bad rows stop everything, or are written to a quarantine file: one JSON line each, with place, reason and row.
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

SHOWN_FAULTS = 20
SHOWN_KINDS = 5
LONGEST = 400  # characters of a fault, and of the advice
PARTICULARS = re.compile(r"'[^']*'|\"[^\"]*\"|\d[\d,]*")  # names and numbers, which differ between faults of one kind
QUARANTINE = "quarantine.jsonl"


@dataclass(frozen=True, slots=True)
class BadRows:
    """What happens with rows that cannot be used.

    skip: leave them out; otherwise the first of them stops everything.
    limit: how many may be left out, a number or a fraction of all rows.
    """

    skip: bool = False
    limit: int | float = 0

    def allows(self, bad: int, rows: int) -> bool:
        """Whether ``bad`` of ``rows`` rows may be left out."""
        limit = self.limit if isinstance(self.limit, int) else math.floor(rows * Fraction(repr(self.limit)))
        return bad <= (limit if self.skip else 0)


STRICT = BadRows()


class RowFault(NamedTuple):
    """Why one row cannot be used, in the parts of a DataError.

    what: the error.
    where: the place of the row.
    advice: what to do.
    row: its value, if it could be parsed.
    final: nothing after this row can be read, so more than one row is lost.
    """

    what: str
    where: str | None
    advice: str | None
    row: Any = None
    final: bool = False

    def error(self) -> DataError:
        """The fault as an error that can be raised."""
        return DataError(self.what, where=self.where, advice=self.advice)

    def line(self) -> bytes:
        """The fault as a line of the quarantine file."""
        entry = {"place": self.where, "reason": self.what, "advice": self.advice}
        if self.row is not None:
            entry["row"] = _as_json(self.row)
        return json.dumps(entry, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace") + b"\n"


def _as_json(value: Any) -> Any:
    """A value as JSON has it; types that JSON does not have (dates, bytes, numbers that are not finite) become text."""
    if isinstance(value, dict):
        return {str(key): _as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    if value is None or isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return str(value)


def one_line(text: str, longest: int = LONGEST) -> str:
    """A text that may quote data, safe for a terminal: only printable characters, and at most ``longest`` of them."""
    shown = text if len(text) <= longest else f"{text[: longest - 4]} ..."
    return shown if shown.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in shown)


class FaultLog:
    """Counts all faults by their kind, and keeps the first of them in the order of the rows."""

    def __init__(self, policy: BadRows) -> None:
        self.policy = policy
        self.first: list[RowFault] = []
        self.kinds: Counter[str] = Counter()
        self.final: RowFault | None = None

    @property
    def must_fail(self) -> bool:
        """Whether ``check`` will raise whatever comes next, so that nothing needs to be stored any more."""
        return self.final is not None or (bool(self.first) and not self.policy.skip)

    def add(self, faults: Iterable[RowFault]) -> None:
        """Count some faults, which are in the order of the rows."""
        for fault in faults:
            if len(self.first) < SHOWN_FAULTS:
                self.first.append(fault)
            self.kinds[PARTICULARS.sub("..", fault.what)] += 1
            if fault.final and self.final is None:
                self.final = fault

    def check(self, rows: int) -> None:
        """Raise one error for all faults, unless the policy allows so many.

        rows: how many rows there were in all.
        Raises DataError: the only fault, or a list of the first 20 with the number of all.
        """
        count = self.kinds.total()
        if self.final is not None and self.policy.skip:
            raise self.final.error()
        if self.final is None and self.policy.allows(count, rows):
            return
        if count == 1 and not self.policy.skip:
            raise self.first[0].error()
        heading = f"{count:,} records cannot be used, and nothing was stored:"
        if self.policy.skip:
            limit = f"data.max_bad is {self.policy.limit:g}"
            heading = f"{count:,} of {rows:,} records cannot be used ({limit}), and nothing was stored:"
        lines = [heading, *(str(fault.error()) for fault in self.first)]
        if count > SHOWN_FAULTS:
            kinds = ", ".join(f"{kind} ({number:,})" for kind, number in self.kinds.most_common(SHOWN_KINDS))
            lines.append(f"... and {count - SHOWN_FAULTS:,} more; the most frequent are: {kinds}")
        raise DataError("\n  ".join(lines), advice="fix these records, or do what their messages advise")
