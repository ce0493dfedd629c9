"""Checks of the plan of a run before its first step: periods that have no effect, and disk space."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from tunesmith.compose.components.optimizer import build_schedule, warmup_length
from tunesmith.recipe.schema import Recipe, TrainConfig
from tunesmith.recipe.training import period_in_steps
from tunesmith.report.check import Check, append_words
from tunesmith.train.run.callbacks import Checkpointer
from tunesmith.train.run.checkpoint import check_free_space, checkpoint_paths
from tunesmith.train.tensors import size_in_bytes, tied_names

PLAN = "plan"


def plan_checks(recipe: Recipe, total: int, examples: int) -> list[Check]:
    """One check for every period of a recipe that has not the effect that it is set for; one that passes without any.

    total: optimizer steps of the run.
    examples: of one epoch.
    """
    found = list(_find_warmup(recipe.train, total))
    if recipe.objective.prompt_selection is None:  # otherwise a batch has replies of the model
        found += _find_batch(recipe.train, examples)
    if recipe.data.evaluates:
        found += [*_find_evaluations(recipe.train, total), *_find_unsaved(recipe, total)]
    return found or [
        Check(PLAN, "pass", f"{total:,} optimizer steps are enough for warm-up, evaluations and checkpoints")
    ]


def _find_warmup(keys: TrainConfig, total: int) -> Iterator[Check]:
    warmup = warmup_length(keys.schedule, total)
    if warmup >= total:
        largest = max(map(build_schedule(keys, total), range(total)))
        summary = (
            f"the warm-up (steps: {warmup:,}) is not over at the last step of the run, {total:,}: the largest "
            f"learning rate is {largest:.2g}, not {keys.learning_rate:g}"
        )
        yield Check(PLAN, "warn", summary, "train.schedule", _shorten_warmup(keys, total))


def _shorten_warmup(keys: TrainConfig, total: int) -> str:
    """The words that make the warm-up a tenth of the run. total: its optimizer steps."""
    shortest = 2  # a warm-up of one step changes nothing
    if total <= shortest:
        return "a run as short as this has no place for a warm-up: add data, or lower train.batch_size"
    ratio = getattr(keys.schedule, "warmup_ratio", None)
    word = f"warmup_steps={max(shortest, total // 10)}" if ratio is None else "warmup_ratio=0.1"
    return append_words(f"train.schedule.{word}", to="shorten the warm-up, or train longer")


def _find_batch(keys: TrainConfig, examples: int) -> Iterator[Check]:
    if keys.batch_unit == "examples" and keys.batch_size > examples:
        summary = (
            f"{examples:,} examples of an epoch are fewer than a batch of {keys.batch_size:,}: each epoch is one step"
        )
        advice = append_words(f"train.batch_size={max(1, examples // 10)}", to="have more than one step in an epoch")
        yield Check(PLAN, "warn", summary, "train.batch_size", advice)


def _find_evaluations(keys: TrainConfig, total: int) -> Iterator[Check]:
    every = period_in_steps(keys.evaluate_every, total)
    saved = period_in_steps(keys.save_every, total)  # checkpoints are evaluated as well
    if every is not None and min(every, saved or every) >= total > 1:
        summary = f"{total:,} steps of the run have one evaluation, at the end (train.evaluate_every is {every:,})"
        advice = append_words(f"train.evaluate_every={max(1, total // 10)}", to="see how the model improves")
        yield Check(PLAN, "warn", summary, "train.evaluate_every", advice)


def _find_unsaved(recipe: Recipe, total: int) -> Iterator[Check]:
    """With ``train.best.save`` planned, evaluations between checkpoints can never be the best."""
    keys = recipe.train
    evaluate_every = period_in_steps(keys.evaluate_every, total)
    if keys.best.save == "wins" or evaluate_every is None:
        return
    every = period_in_steps(keys.save_every, total) or total
    unsaved = [step for step in range(evaluate_every, total, evaluate_every) if step % every]
    if unsaved:
        summary = (
            f"{len(unsaved):,} evaluations, such as that of step {unsaved[0]:,}, are at steps without a checkpoint, "
            "so they cannot be the best"
        )
        advice = append_words("train.best.save=wins", to="save every evaluation that is the best so far")
        yield Check(PLAN, "warn", summary, "train.best.save", advice)


def check_space(checkpointer: Checkpointer, model: nn.Module, total: int, *, evaluates: bool) -> None:
    """Check that the disk has space for the checkpoints of the rest of the run, and for the export.

    At the most, the newest ``keep`` checkpoints and those that the selection keeps exist while another one is written.

    total: optimizer steps of the run.
    evaluates: whether there are evaluations that can be saved as the best.
    Raises StorageError.
    """
    size = sum(_stored_bytes(tensors) for tensors in checkpointer.tensors().values())
    planned = math.ceil((total - checkpointer.saved) / (checkpointer.every or total))
    rule = checkpointer.selection.rule
    best = rule.keep if evaluates else 0
    most = checkpointer.keep + best + 1 - len(checkpoint_paths(checkpointer.directory))
    count = max(1, min(planned + best * rule.save_wins, most))
    of_export = _largest_export(model.state_dict())
    what = f"{count} checkpoint{'s' * (count > 1)} of {size:,} bytes and an export of {of_export:,} bytes"
    check_free_space(checkpointer.directory, count * size + of_export, what)


def _largest_export(tensors: Mapping[str, Tensor]) -> int:
    """Bytes of the weights of a model in float32, whatever they are stored in."""
    tied = tied_names(tensors)
    return sum(4 * tensor.numel() for name, tensor in tensors.items() if name not in tied)


def _stored_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Bytes of the tensors in a file, where tied ones are stored once."""
    tied = tied_names(tensors)
    return size_in_bytes({name: tensor for name, tensor in tensors.items() if name not in tied})
