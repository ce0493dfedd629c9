"""The errors that a user can cause or fix. A message has what is wrong, where, and what to do."""

from __future__ import annotations

from pathlib import Path


class TunesmithError(Exception):
    """An error that the user can understand and fix. It is printed as ``where: what; advice``.

    what: what is wrong, with the value, without a full stop.
    where: the place: ``file.jsonl:4711``, ``recipe.yaml:12 train.learning_rate`` or a path; None if there is none.
    advice: what to do next, without a full stop; None if there is nothing to do.
    exit_code: the exit code of the process.
    """

    exit_code = 70

    def __init__(self, what: str, *, where: str | Path | None = None, advice: str | None = None) -> None:
        self.what, self.where, self.advice = what, None if where is None else str(where), advice
        place = f"{self.where}: " if self.where else ""
        super().__init__(f"{place}{what}" + (f"; {advice}" if advice else ""))


class UsageError(TunesmithError):
    """The command line cannot be used as it is."""

    exit_code = 64


class DataError(TunesmithError):
    """A record, file or tokenizer has content that cannot be used."""

    exit_code = 65


class MissingInputError(TunesmithError):
    """A file, directory or hub name does not exist, or nothing is left after filtering."""

    exit_code = 66


class InternalError(TunesmithError):
    """An invariant of a run is violated, such as a loss that is not finite."""

    exit_code = 70


class StorageError(TunesmithError):
    """Writing failed, or stored data are damaged: disk full, missing permission, corrupted checkpoint."""

    exit_code = 74


class StoppedError(TunesmithError):
    """A signal stopped the run after its progress was saved."""

    exit_code = 75


class LockedError(TunesmithError):
    """Another process uses the run directory."""

    exit_code = 76


class RecipeError(TunesmithError):
    """The recipe, or its combination with model, tokenizer and data, is invalid."""

    exit_code = 78


class ConfigurationError(TunesmithError):
    """The server would be set up in a way that is not safe."""

    exit_code = 78
