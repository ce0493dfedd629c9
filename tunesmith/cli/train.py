"""`tunesmith train`: trains the model of a recipe."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext

from tunesmith.cli.card import print_notice
from tunesmith.cli.lazy import load_heavy_part, load_part
from tunesmith.cli.words import ChangesArgument, RecipeArgument
from tunesmith.launch import launched_process, reported_once
from tunesmith.recipe.load import load, split_words
from tunesmith.train.run.signals import stopping_at_once


def train(recipe: RecipeArgument, changes: ChangesArgument = None) -> None:
    """Train the model of a recipe. If the run was interrupted, the same command resumes it from its last checkpoint.

    For example: tunesmith train faq.yaml
    """
    # Several processes end together by other means: a signal that only one of them gets must not leave the others.
    is_alone = launched_process(os.environ).size == 1
    with stopping_at_once() if is_alone else nullcontext():
        _train([recipe, *(changes or ())])


def _train(words: Sequence[str]) -> None:
    with reported_once(launched_process(os.environ)):
        names, values = split_words(words)
        loaded = load(names, values)  # before anything heavy is imported, so that mistakes are reported at once
        load_part("tunesmith.data.readers.recipe_check:check_readers")(loaded)
        load_part("tunesmith.cli.start_checks:check_start")(loaded.recipe)
    trained = load_heavy_part("tunesmith.compose.train:train_recipe")(loaded, command=["tunesmith", "train", *words])
    if launched_process(os.environ).rank == 0:
        load_part("tunesmith.publish.card.writing:write_card_after_training")(trained.directory, print_notice)
