"""Arguments and options that several commands have: a recipe, a reader, and settings written as KEY=VALUE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import typer

from tunesmith.errors import UsageError

RecipeArgument = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE",
        help="The name of a built-in recipe (see `tunesmith recipes`), or a .yaml file.",
        show_default=False,
    ),
]
ChangesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="LAYER|KEY=VALUE",
        help="Changes to the recipe: layers such as tiny, .yaml files, and single values such as train.epochs=1. If "
        "two of them set the same key, the later one wins; single values win over files.",
        show_default=False,
    ),
]
FieldOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=COLUMN",
        help="The column of the data that holds a field of the reader; may be repeated.",
        show_default=False,
    ),
]
ReaderOptions = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=VALUE", help="An option of the reader; may be repeated.", show_default=False),
]
IgnoreOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN",
        help="A column or message key that is left out on purpose, whatever it holds; may be repeated.",
        show_default=False,
    ),
]
Chosen = Literal["report", "selection", "trees", "preferences"]
CHOSEN_HELP = (
    "what the best and worst replies make: a report of the best, a selection (a directory with the three files of "
    "Open-Assistant's rejection sampling), its trees with replies ranked by score, or preferences (the best and the "
    "worst reply to every prompt as a pair)."
)
KeepOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="With --write, how many replies to a prompt: in a report 1 by default, a selection 3, a tree 5.",
        show_default=False,
    ),
]


def split_setting(word: str, example: str) -> tuple[str, str]:
    """``KEY=VALUE`` -> (key, value as text). Raises UsageError, which shows the example."""
    key, equals, value = word.partition("=")
    if not equals or not key:
        raise UsageError(f"{word!r} is not a setting", advice=f"write it as in {example}")
    return key, value


def split_settings(words: Sequence[str] | None, example: str) -> list[tuple[str, str]]:
    """(key, value as text) of every word. Raises UsageError, which shows the example."""
    return [split_setting(word, example) for word in words or ()]
