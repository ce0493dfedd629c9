"""`tunesmith plan`: whether a recipe fits on a GPU, before anything is loaded."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from tunesmith.cli.lazy import load_heavy_part, load_part
from tunesmith.cli.words import ChangesArgument, RecipeArgument
from tunesmith.errors import RecipeError
from tunesmith.recipe.load import load, split_words
from tunesmith.recipe.training import ShardKind

PLAN, OPTIONS = "tunesmith.compose.sizing.command:plan_recipe", "tunesmith.compose.sizing.command:PlanOptions"
AS_JSON, LINES, VERDICT = (
    "tunesmith.compose.sizing.command:as_json",
    "tunesmith.compose.sizing.lines:plan_lines",
    "tunesmith.compose.sizing.lines:verdict",
)


def plan(
    recipe: RecipeArgument,
    changes: ChangesArgument = None,
    gpu: Annotated[
        str | None,
        typer.Option(
            help="The type of GPU: b200, h200, h100, a100-80, a100-40, l40s, a6000, 5090, 4090 or 3090. [default: that "
            "of this machine, or else h100]",
            show_default=False,
        ),
    ] = None,
    gpus: Annotated[int, typer.Option(min=1, help="The number of GPUs.")] = 1,
    shard: Annotated[
        ShardKind | None,
        typer.Option(
            help="What several GPUs divide among them: nothing, gradients and optimizer, or the weights, too. "
            "[default: none on one GPU, zero3 on several]",
            show_default=False,
        ),
    ] = None,
    tokens: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="The tokens that the whole run reads, for the hours. [default: those of the data, if they and the "
            "tokenizer are files]",
            show_default=False,
        ),
    ] = None,
    longest: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="The tokens of the longest record, with all its branches. [default: of the data, or text.max_length]",
            show_default=False,
        ),
    ] = None,
    speed: Annotated[
        float | None,
        typer.Option(min=0.001, help="Tokens a second of one GPU that you have measured.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, in bytes and seconds.")] = False,
) -> None:
    """Print what a recipe needs in memory, disk and time, and what to change if it does not fit.

    It needs neither a GPU nor the weights of the model. The exit code is 78 if the run does not fit.

    For example: tunesmith plan dolly-v2-12b --gpu h200
    """
    words = [recipe, *(changes or ())]
    load(*split_words(words))  # before anything heavy is imported, so that mistakes are reported at once
    run = load_heavy_part(PLAN)
    options = load_part(OPTIONS)(gpu, gpus, shard, tokens, longest, speed)
    result = run(words, options)
    if as_json:
        print(load_part(AS_JSON)(result))
    else:
        _print(load_part(LINES)(result), load_part(VERDICT)(result), "green" if result.fits else "red")
    if not result.fits:
        raise typer.Exit(RecipeError.exit_code)


def _print(lines: list[str], verdict: str, colour: str) -> None:
    """Print lines; the first words of the verdict are coloured on a terminal."""
    coloured = sys.stdout.isatty()
    for line in lines:
        print(typer.style(line, fg=colour, bold=True) if coloured and verdict[:20] in line else line)
