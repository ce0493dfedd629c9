"""Where a value of a recipe was given, and what is wrong with it; all problems of a recipe are reported together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tunesmith.errors import RecipeError


@dataclass(frozen=True, slots=True, order=True)
class Origin:
    """Where a value was given.

    source: a file as the user named it, a name of the catalog, ``command line`` or ``default``.
    line: line number in the file, from 1; 0 if there is none.
    """

    source: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}" if self.line else self.source


DEFAULT = Origin("default")
COMMAND_LINE = Origin("command line")

LONGEST = 3000
"""Characters of a problem that are shown: messages quote values and keys, which may have any length."""


@dataclass(frozen=True, slots=True, order=True)
class RecipeProblem:
    """One line of an error report, printed as ``origin key: message``.

    origin: where the value was given.
    key: dotted key of the value; empty if the problem concerns the whole file.
    message: what is wrong and, where possible, what to do.
    """

    origin: Origin
    key: str
    message: str

    def __str__(self) -> str:
        text = f"{self.origin} {self.key}: {self.message}" if self.key else f"{self.origin}: {self.message}"
        return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"


class InvalidRecipeError(RecipeError):
    """A recipe with problems; the message has one line for each, in the order of the files.

    problems: all problems that were found, sorted, without repetitions.
    """

    def __init__(self, problems: Iterable[RecipeProblem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(str(problem) for problem in self.problems))
