"""`tunesmith train`: trains the model of a recipe."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

from tunesmith.cli.card import print_notice
from tunesmith.cli.lazy import load_heavy_part, load_part
from tunesmith.cli.words import ChangesArgument, RecipeArgument
from tunesmith.launch import launched_process, reported_once
from tunesmith.recipe.load import LoadedRecipe, load, split_words
from tunesmith.train.run.signals import stopping_at_once

if TYPE_CHECKING:
    from tunesmith.train.run.trained import TrainedRun


def train(recipe: RecipeArgument, changes: ChangesArgument = None) -> None:
    """Train the model of a recipe. If the run was interrupted, the same command resumes it from its last checkpoint.

    For example: tunesmith train faq.yaml
    """
    # Several processes end together by other means: a signal that only one of them gets must not leave the others.
    is_alone = launched_process(os.environ).size == 1
    with stopping_at_once(ends_process=True) if is_alone else nullcontext():
        _train([recipe, *(changes or ())])


def _train(words: Sequence[str]) -> None:
    with reported_once(launched_process(os.environ)):
        names, values = split_words(words)
        loaded = load(names, values)  # before anything heavy is imported, so that mistakes are reported at once
    train_loaded(loaded, ["tunesmith", "train", *words])


def train_loaded(loaded: LoadedRecipe, command: Sequence[str] = ()) -> TrainedRun:
    """Train the model of a recipe that is loaded, or resume its run, and write the model card.

    command: the words of the command line, which the run records.
    Raises any TunesmithError, among them StoppedError.
    """
    with reported_once(launched_process(os.environ)):  # before PyTorch is imported
        load_part("tunesmith.data.readers.recipe_check:check_readers")(loaded)
        load_part("tunesmith.cli.start_checks:check_start")(loaded.recipe)
    trained: TrainedRun = load_heavy_part("tunesmith.compose.train:train_recipe")(loaded, command=command)
    if launched_process(os.environ).rank == 0:
        load_part("tunesmith.publish.card.writing:write_card_after_training")(trained.directory, print_notice)
    return trained
