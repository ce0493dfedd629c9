"""`tunesmith check`: checks a recipe on its own data, tokenizer and model before training."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from tunesmith.cli.lazy import load_heavy_part, load_part
from tunesmith.cli.words import ChangesArgument, RecipeArgument
from tunesmith.recipe.load import load, split_words


def check(
    recipe: RecipeArgument,
    changes: ChangesArgument = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Write check.json and check.html to this directory; by default, to the run's directory with -check "
            "appended to its name.",
            show_default=False,
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Treat warnings as failures.")] = False,
    model: Annotated[
        bool, typer.Option("--model/--no-model", help="Also build or load the model and test it, or leave it out.")
    ] = True,
) -> None:
    """Check that a recipe trains on the right tokens, and report unusual data, before training starts.

    The result is a table on the screen, check.json and check.html. The exit code is 0 if no check fails.

    For example: tunesmith check dolly-v2-3b tiny model.tokenizer=my-tokenizer data.sources.0.path=my.jsonl
    """
    words = [recipe, *(changes or ())]
    names, values = split_words(words)
    loaded = load(names, values)  # before anything heavy is imported, so that mistakes are reported at once
    load_part("tunesmith.data.readers.recipe_check:check_readers")(loaded)
    command = shlex.join(["tunesmith", "check", *words, *(() if model else ("--no-model",))])
    run_check = load_heavy_part("tunesmith.compose.check.command:run_check")
    raise typer.Exit(run_check(loaded, output, strict=strict, with_model=model, command=command))
