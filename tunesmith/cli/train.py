"""`tunesmith train`: the recipe is resolved before anything heavy is loaded, so its errors come at once."""

from __future__ import annotations

from typing import Annotated

import typer

from tunesmith.cli.lazy import load_part
from tunesmith.memory import keep_freed_memory
from tunesmith.recipe.load import load, split_words


def train(
    words: Annotated[
        list[str], typer.Argument(metavar="RECIPE|LAYER|KEY=VALUE", help="recipe, layers and single values")
    ],
) -> None:
    """Train what a recipe describes; the same line again goes on where it stopped.

    For example: tunesmith train dolly-v2-3b tiny model.tokenizer=my-tokenizer data.sources.0.path=my.jsonl
    """
    names, values = split_words(words)
    loaded = load(names, values)  # first, so that its errors come before anything heavy is loaded
    keep_freed_memory()
    load_part("tunesmith.compose.train:train_recipe")(loaded)
