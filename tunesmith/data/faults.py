"""What is wrong with the data, gathered before anything is said: the first places, and how often each kind occurs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from tunesmith.errors import DataError

SHOWN = 20
KINDS_SHOWN = 5
LONGEST = 400  # characters of a fault, and of the advice
PARTICULARS = re.compile(r"'[^']*'|\"[^\"]*\"|\d[\d,]*")  # names and numbers, which differ between faults of one kind


class Fault(NamedTuple):
    """What is wrong with one row, in the parts of a DataError. number: that of the row."""

    number: int
    what: str
    where: str | None
    advice: str | None


def one_line(text: str, longest: int = LONGEST) -> str:
    """A text that may quote foreign data, fit for a terminal: printable characters, and no more than ``longest``."""
    shown = text if len(text) <= longest else f"{text[: longest - 4]} ..."
    return shown if shown.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in shown)


class Faults:
    """Counts all faults and keeps the first, in the order of the rows, whoever found them when."""

    def __init__(self) -> None:
        self.first: list[Fault] = []
        self.kinds: Counter[str] = Counter()

    def __bool__(self) -> bool:
        return bool(self.first)

    def add(self, faults: Iterable[Fault]) -> None:
        """Take note of some faults."""
        for fault in faults:
            self.first.append(fault)
            self.kinds[PARTICULARS.sub("..", fault.what)] += 1
        self.first = sorted(self.first, key=lambda fault: fault.number)[:SHOWN]

    def check(self) -> None:
        """Raises DataError if there is any fault: the one, or a list of the first 20 with the number of all."""
        count = self.kinds.total()
        if not count:
            return
        if count == 1:
            raise DataError(self.first[0].what, where=self.first[0].where, advice=self.first[0].advice)
        shown = [str(DataError(fault.what, where=fault.where, advice=fault.advice)) for fault in self.first]
        lines = [f"{count:,} records cannot be used, and nothing was kept:", *shown]
        if count > SHOWN:
            kinds = ", ".join(f"{kind} ({number:,})" for kind, number in self.kinds.most_common(KINDS_SHOWN))
            lines.append(f"... and {count - SHOWN:,} more; most frequent: {kinds}")
        raise DataError("\n  ".join(lines), advice="mend or remove these records")
