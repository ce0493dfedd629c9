"""What a run needs, checked as far as that is possible before anything heavy is imported."""

from __future__ import annotations

import difflib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from tunesmith.data.sources.source import HUB_NAME, find_source
from tunesmith.errors import MissingInputError, StorageError
from tunesmith.files import looks_like_path
from tunesmith.generate.model_formats import check_writes_replies, choose_formats
from tunesmith.recipe.schema import Recipe
from tunesmith.train.run.tracker_packages import check_trackers

LEAST_SPACE = 1 << 20
"""Bytes below which not even the records of a run can be written. What its checkpoints need is compared later."""


def check_start(recipe: Recipe) -> None:
    """Raises StorageError (run directory), RecipeError (trackers), MissingInputError or DataError (paths)."""
    check_trackers(recipe.run.trackers)
    check_writable(recipe.directory)
    for key, path in _model_paths(recipe):
        check_model_path(key, path)
    for name in ("sources", "validation_sources"):
        for index, source in enumerate(getattr(recipe.data, name)):
            if not _is_on_the_hub(source.path):
                find_source(source.path, source.split, source.config, f"data.{name}.{index}")


def check_writable(directory: Path, advice: str = "choose another run.directory") -> None:
    """Raises StorageError if the directory cannot be made or written, or if its disk is full.

    advice: what else the user can do about it.
    """
    existing = next(path for path in (directory.absolute(), *directory.absolute().parents) if os.path.lexists(path))
    if not existing.is_dir():
        raise StorageError("this is not a directory, so nothing can be written to it", where=existing, advice=advice)
    if not os.access(existing, os.W_OK | os.X_OK):
        raise StorageError("you may not write here", where=existing, advice=advice)
    if (free := shutil.disk_usage(existing).free) < LEAST_SPACE:
        what = f"the disk is full ({free:,} bytes are free)"
        raise StorageError(what, where=existing, advice=f"free disk space, or {advice}")


def check_model_path(key: str, path: str) -> None:
    """Raises MissingInputError for a path that does not exist; a name that the hub may have is accepted.

    key: the recipe key that names it.
    """
    if looks_like_path(path) and not os.path.lexists(Path(path).expanduser()):
        advice = "check it; it is relative to the current directory"
        raise MissingInputError("the path does not exist", where=f"{key} {path}", advice=advice)


def check_models(paths: Sequence[str], format: str | None, *, needs_format: bool = True) -> None:
    """Check models that are to write replies, as far as their small files show it.

    format: the prompt format of the models that declare none.
    needs_format: whether a model that declares none and is given none is an error.
    Raises MissingInputError, DataError, RecipeError, and UsageError for reward models and formats that do not fit.
    """
    for path in paths:
        check_model_directory(path)
        check_writes_replies(path)
    if needs_format:
        choose_formats(paths, format, lambda notice: None)


def check_model_directory(path: str) -> None:
    """Raises MissingInputError if a directory of a run or model does not exist."""
    directory = Path(path).expanduser()
    if directory.exists():
        return
    advice = "give a run directory, its export, or another local model directory"
    if (close := _similar_entry(directory)) is not None:
        advice = f"did you mean {close}?"
    raise MissingInputError("there is no such directory", where=path, advice=advice)


def _similar_entry(path: Path) -> Path | None:
    """The directory next to a missing one whose name is similar."""
    names = [entry.name for entry in path.parent.iterdir() if entry.is_dir()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, names, n=1)
    return path.with_name(close[0]) if close else None


def _model_paths(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """(recipe key, path or hub name) of everything that is read apart from the data."""
    model, objective = recipe.model, recipe.objective
    reference = objective.separate_reference
    named = {"model.path": model.path, "model.tokenizer": model.tokenizer, "objective.reference": reference}
    yield from ((key, path) for key, path in named.items() if path is not None)
    yield from ((f"objective.{key}", str(path)) for key, path in objective.further_inputs.items())


def _is_on_the_hub(path: str) -> bool:
    """Whether the path of a data source can be a hub name only."""
    return HUB_NAME.fullmatch(path) is not None and not Path(path).suffix and not os.path.lexists(path)
