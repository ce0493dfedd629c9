"""Which checkpoint of a run its recipe chooses, from what the run has recorded so far."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import nn

from tunesmith.errors import MissingInputError, StorageError
from tunesmith.recipe.load import load
from tunesmith.recipe.schema import BestConfig
from tunesmith.train.run import checkpoint
from tunesmith.train.run.directory import RECIPE
from tunesmith.train.run.metrics import read_records
from tunesmith.train.run.selection import Metric, Selection, SelectionRule, replay

METRICS = "metrics.jsonl"


def selection_rule(keys: BestConfig) -> SelectionRule:
    return SelectionRule(tuple(Metric(metric.name, metric.mode, metric.weight) for metric in keys.metrics), keys.keep)


def best_of_run(directory: Path) -> Selection:
    """The choice at the end of the record of ``directory``, whether the run goes on or not; nothing is changed.

    Raises MissingInputError if there is no run, RecipeError, StorageError.
    """
    recipe, metrics = directory / RECIPE, directory / METRICS
    for path in (recipe, metrics):
        if not path.is_file():
            raise MissingInputError("there is no such file", where=path, advice="name the directory of a run")
    return replay(read_records(metrics), selection_rule(load([str(recipe)]).recipe.train.best))


def take_best(directory: Path, checkpoints: Path, model: nn.Module, notice: Callable[[str], None]) -> int:
    """Put the weights of the best checkpoint of a run into ``model``; returns its step. Raises StorageError."""
    best = best_of_run(directory).best
    found = checkpoint.of_step(checkpoints, best, lambda text: notice(f"WARNING {text}"))
    if found is None:
        raise StorageError(
            f"the best checkpoint (step {best}) is not there any more",
            where=checkpoints,
            advice="put it back, or export the last weights with run.export=last",
        )
    model.load_state_dict(found.load("model"), strict=True)
    notice(f"the best checkpoint is that of step {best}")
    return best
