"""`tunesmith runs --page`: writes the page of a run again, also of one that an earlier version trained."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from tunesmith.compose.methods.registry import METHODS
from tunesmith.compose.run_page import write_run_page
from tunesmith.errors import RecipeError
from tunesmith.train.run.directory import METRICS
from tunesmith.train.run.recorded_recipe import RecordedRecipe
from tunesmith.train.run.status import find_status


def run(directory: Path) -> Path:
    """Write the page of a run; returns its path.

    Raises MissingInputError, DataError, RecipeError (no method that this version knows), StorageError.
    """
    recipe = RecordedRecipe.read(directory)
    if recipe.method not in METHODS:
        raise RecipeError(
            f"there is no method {recipe.method!r}", where=directory, advice=f"there are {', '.join(METHODS)}"
        )
    status = find_status(directory)
    metrics = directory / METRICS
    if not status.updated and metrics.is_file():
        changed = datetime.fromtimestamp(metrics.stat().st_mtime, UTC)
        status = replace(status, updated=changed.isoformat(timespec="seconds"))
    shown = METHODS[recipe.method].shown
    return write_run_page(directory, recipe.rule(), shown, status)
