"""How the directory of a run is opened, and what is recorded when it begins or continues."""

from __future__ import annotations

from typing import Any

from tunesmith.compose.manifest import EARLIER, EXCHANGEABLE, MANIFEST_MAY_DIFFER, MAY_DIFFER, REMEDIES, manifest
from tunesmith.compose.methods.method import RunContext
from tunesmith.data.dataset.faults import QUARANTINE
from tunesmith.errors import RecipeError
from tunesmith.files import write_file
from tunesmith.recipe.load import dump
from tunesmith.recipe.schema import Recipe
from tunesmith.train.run.checkpoint_files import Checkpoint
from tunesmith.train.run.directory import RunDirectory, free_directory
from tunesmith.train.run.view import View
from tunesmith.world import Communicator


def open_run(recipe: Recipe, world: Communicator, view: View) -> RunDirectory:
    """Create or continue the run; the first process owns it."""
    if not world.is_first:
        return RunDirectory.join(recipe.directory, dump(recipe))
    return RunDirectory.open(
        recipe.directory,
        dump(recipe),
        notice=view.note,
        may_differ=MAY_DIFFER,
        earlier=EARLIER,
        exchangeable=EXCHANGEABLE,
    )


def record_run(context: RunContext[Any, Any], last: Checkpoint | None, total: int, view: View) -> None:
    """Write recipe and manifest, which make the directory a run, or compare them. total: steps of the whole run."""
    recipe, run = context.recipe, context.run
    run.record(
        manifest(recipe, context.data, context.evaluation_data, context.tokenizer, context.world.size),
        view.note,
        may_differ=(*MANIFEST_MAY_DIFFER, *(("code",) if recipe.run.allow_code_change else ())),
        remedies=REMEDIES,
        before_writing=lambda: check_length(run, recipe, 0 if last is None else last.step, total),
    )
    if context.data.quarantine is not None:
        write_file(run.path / QUARANTINE, context.data.quarantine.read_bytes())


def check_length(run: RunDirectory, recipe: Recipe, done: int, total: int) -> None:
    """Raises RecipeError if a run that is continued with a smaller length has more steps already."""
    if done <= total:
        return
    before, now = run.previous.get("train", {}), recipe.train.model_dump()
    changed = {key: before.get(key) for key in ("epochs", "steps") if before.get(key) != now[key]}
    lengths = changed or {"steps": done, "epochs": None}  # the records have become fewer, not the length
    words = " ".join(f"train.{key}={'null' if value is None else f'{value:.15g}'}" for key, value in lengths.items())
    raise RecipeError(
        f"the run has {done:,} steps already, and with this length it would have {total:,}",
        where="train.steps, train.epochs",
        advice=f"for a new run append {free_directory(run.path)}; to go on with the length of this run append {words}",
    )
