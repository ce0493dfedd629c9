"""One family of errors. A message says what is wrong, where, and what to do; each kind has its exit code."""

from __future__ import annotations

from pathlib import Path


class TunesmithError(Exception):
    """A fault that the user can understand and mend.

    what: one sentence fragment without a full stop, naming the fault and the value.
    where: the place: ``file.jsonl:4711``, ``recipe.yaml:12 train.learning_rate``, a path, or nothing.
    advice: what to do next, one sentence fragment, or nothing.
    """

    exit_code = 70

    def __init__(self, what: str, *, where: str | Path | None = None, advice: str | None = None) -> None:
        self.what, self.where, self.advice = what, None if where is None else str(where), advice
        place = f"{self.where}: " if self.where else ""
        super().__init__(f"{place}{what}" + (f"; {advice}" if advice else ""))


class UsageError(TunesmithError):
    """The command line cannot be understood."""

    exit_code = 64


class DataError(TunesmithError):
    """A record, file or tokenizer holds something that cannot be used."""

    exit_code = 65


class MissingInputError(TunesmithError):
    """A file, directory or hub name does not exist, or nothing is left after filtering."""

    exit_code = 66


class InternalError(TunesmithError):
    """An invariant of a run broke (a loss that is not finite, a failed proof)."""

    exit_code = 70


class StorageError(TunesmithError):
    """Writing or reading back failed: disk full, permission, corrupted checkpoint."""

    exit_code = 74


class StoppedError(TunesmithError):
    """A signal ended the run; what was trained so far is saved."""

    exit_code = 75


class LockedError(TunesmithError):
    """Another process owns the run directory."""

    exit_code = 76


class RecipeError(TunesmithError):
    """The recipe (or its combination with model and tokenizer) is wrong."""

    exit_code = 78
