"""The checkpoint of a run that its recipe chooses, from the evaluations recorded so far."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import nn

from tunesmith.errors import MissingInputError, StorageError
from tunesmith.recipe.load import load
from tunesmith.recipe.schema import BestConfig
from tunesmith.train.run import checkpoint
from tunesmith.train.run.directory import CHECKPOINTS, METRICS, RECIPE
from tunesmith.train.run.exact_weights import load_exact_weights
from tunesmith.train.run.metrics import read_records
from tunesmith.train.run.selection import CheckpointSelection, SelectionMetric, SelectionRule, select_checkpoint


def selection_rule(keys: BestConfig) -> SelectionRule:
    """The rule of ``train.best``."""
    metrics = tuple(SelectionMetric(metric.name, metric.mode, metric.weight) for metric in keys.metrics)
    return SelectionRule(metrics, keys.save == "wins", keys.keep)


def best_of_run(directory: Path) -> CheckpointSelection:
    """The choice after all evaluations of the run in ``directory``, finished or not. Nothing is changed.

    Raises MissingInputError if there is no run, RecipeError, StorageError.
    """
    recipe, metrics = directory / RECIPE, directory / METRICS
    for path in (recipe, metrics):
        if not path.is_file():
            raise MissingInputError("there is no such file", where=path, advice="name the directory of a run")
    return select_checkpoint(read_records(metrics), selection_rule(load([str(recipe)]).recipe.train.best))


def load_best(directory: Path, model: nn.Module, warn: Callable[[str], None]) -> int:
    """Load the exact weights of the best checkpoint of a run; returns its step. Arguments as of ``load_step``."""
    best = best_of_run(directory).best
    load_step(directory, best, model, warn)
    return best


def load_step(directory: Path, step: int, model: nn.Module, warn: Callable[[str], None]) -> None:
    """Load the exact weights of a checkpoint of a run into ``model``, which becomes float32.

    directory: of the run.
    warn: reports damaged checkpoints.
    Raises StorageError if the checkpoint is missing.
    """
    checkpoints = directory / CHECKPOINTS
    found = checkpoint.of_step(checkpoints, step, warn)
    if found is None:
        raise StorageError(
            f"the checkpoint of step {step}, which is to be exported, is missing",
            where=checkpoints,
            advice="restore it, or export the last weights with run.export=last",
        )
    load_exact_weights(found, "model", model)
