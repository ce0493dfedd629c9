"""`tunesmith check`: prove the masks of a recipe on its own data, tokenizer and model, and look for what is odd."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunesmith.cli.lazy import load_part
from tunesmith.recipe.load import load, split_words


def check(
    words: Annotated[
        list[str], typer.Argument(metavar="RECIPE|LAYER|KEY=VALUE", help="recipe, layers and single values")
    ],
    output: Annotated[
        Path | None,
        typer.Option(help="Directory for check.json and check.html; default: beside the run, with -check at its end."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count as failures.")] = False,
    model: Annotated[bool, typer.Option("--model/--no-model", help="Make or load the model and test it too.")] = True,
) -> None:
    """Say whether a recipe would train what it should: a table, check.json and check.html, and exit code 0 or not.

    For example: tunesmith check dolly-v2-3b tiny model.tokenizer=my-tokenizer data.sources.0.path=my.jsonl
    """
    names, values = split_words(words)
    loaded = load(names, values)  # first, so that its errors come before anything heavy is loaded
    raise typer.Exit(
        load_part("tunesmith.compose.check.command:run_check")(loaded, output, strict=strict, with_model=model)
    )
