"""Where a value came from, and what is wrong with it; all faults of a recipe are reported together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tunesmith.errors import RecipeError


@dataclass(frozen=True, slots=True, order=True)
class Origin:
    """source: a file as the user named it, a catalogue name, ``command line`` or ``default``. line: from 1, 0 for none."""

    source: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}" if self.line else self.source


DEFAULT = Origin("default")
COMMAND_LINE = Origin("command line")


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One line of a report: ``origin key: what``."""

    origin: Origin
    key: str
    what: str

    def __str__(self) -> str:
        return f"{self.origin} {self.key}: {self.what}" if self.key else f"{self.origin}: {self.what}"


class RecipeFaults(RecipeError):
    """Every fault found, one a line, in the order of the files."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(sorted(set(faults)))
        super().__init__("\n".join(str(fault) for fault in self.faults))
