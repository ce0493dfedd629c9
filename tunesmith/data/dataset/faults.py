"""Rows that cannot be used: all are collected, and one error has their causes with the first places.

Bad rows stop everything, or are written to a quarantine file: one JSON line each, with place, reason and row.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

from tunesmith.data.sources.setting_words import escape_unprintable
from tunesmith.errors import DataError

SHOWN_FAULTS = 20
SHOWN_KINDS = 5
SHOWN_PLACES = 4  # of one cause
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
    return escape_unprintable(shown)


@dataclass(slots=True)
class FaultCause:
    """Faults that are said in the same words.

    first: of them.
    count: of all.
    others: the places of the next ones.
    """

    first: RowFault
    count: int = 0
    others: list[str] = field(default_factory=list)

    def add(self, fault: RowFault) -> None:
        """Count a fault."""
        self.count += 1
        if 1 < self.count <= SHOWN_PLACES:
            self.others.append(str(fault.where))

    def line(self) -> str:
        """The first fault, and how many more there are."""
        if self.count == 1:
            return str(self.first.error())
        what = f"{self.first.what} (and in {self.count - 1:,} more, such as {self.others[0]})"
        return str(DataError(what, where=self.first.where, advice=self.first.advice))


class FaultLog:
    """Counts all faults by their kind, and keeps their causes in the order of the rows."""

    def __init__(self, policy: BadRows) -> None:
        self.policy = policy
        self.causes: dict[str, FaultCause] = {}
        self.kinds: Counter[str] = Counter()
        self.final: RowFault | None = None

    @property
    def must_fail(self) -> bool:
        """Whether ``check`` will raise whatever comes next, so that nothing needs to be stored any more."""
        return self.final is not None or (bool(self.causes) and not self.policy.skip)

    def add(self, faults: Iterable[RowFault]) -> None:
        """Count some faults, which are in the order of the rows."""
        for fault in faults:
            if fault.what in self.causes or len(self.causes) < SHOWN_FAULTS:
                self.causes.setdefault(fault.what, FaultCause(fault)).add(fault)
            self.kinds[PARTICULARS.sub("..", fault.what)] += 1
            if fault.final and self.final is None:
                self.final = fault

    def check(self, rows: int) -> None:
        """Raise one error for all faults, unless the policy allows so many.

        rows: how many rows there were in all.
        Raises DataError: the only cause, or a list of the first 20 causes with the number of all faults.
        """
        count = self.kinds.total()
        if self.final is not None and self.policy.skip:
            raise self.final.error()
        if self.final is None and self.policy.allows(count, rows):
            return
        listed = sum(cause.count for cause in self.causes.values())
        if len(self.causes) == 1 and listed == count:
            raise self._only_cause(rows)
        heading = f"{count:,} records cannot be used, and nothing was stored:"
        if self.policy.skip:
            limit = f"data.max_bad is {self.policy.limit:g}"
            heading = f"{count:,} of {rows:,} records cannot be used ({limit}), and nothing was stored:"
        lines = [heading, *(cause.line() for cause in self.causes.values())]
        if count > listed:
            kinds = ", ".join(f"{kind} ({number:,})" for kind, number in self.kinds.most_common(SHOWN_KINDS))
            lines.append(f"... and {count - listed:,} more; the most frequent are: {kinds}")
        raise DataError("\n  ".join(lines), advice="fix these records, or do what their messages advise")

    def _only_cause(self, rows: int) -> DataError:
        """The error where all faults have the same cause."""
        (cause,) = self.causes.values()
        allowed = f", data.max_bad is {self.policy.limit:g}" if self.policy.skip else ""
        if cause.count == 1 and not allowed:
            return cause.first.error()
        places = ""
        if cause.others and cause.count < rows:
            places = f", also {', '.join(cause.others)}" + (" and more" if cause.count > SHOWN_PLACES else "")
        many = f"all {rows:,} records" if cause.count == rows else f"{cause.count:,} of {rows:,} records{places}"
        what = f"{cause.first.what} (in {many}{allowed}; nothing was stored)"
        return DataError(what, where=cause.first.where, advice=cause.first.advice)
