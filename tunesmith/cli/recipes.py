"""`tunesmith recipes`, `show` and `schema`: everything about recipes that needs no model."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from tunesmith.errors import UsageError
from tunesmith.files import write_file
from tunesmith.recipe.load import CatalogEntry, annotated_lines, json_schema, list_catalog, load, split_words

ORIGIN_COLUMN = 56  # where the comments begin, if the line leaves room

Words = Annotated[
    list[str],
    typer.Argument(
        metavar="RECIPE|LAYER|KEY=VALUE",
        help="A built-in recipe or a .yaml file, then layers and single values to lay over it; right wins.",
        show_default=False,
    ),
]


HEADINGS = {  # objective -> what it is for; layers have none
    "sft": "Supervised fine-tuning (objective sft)",
    "dpo": "Preferences (objective dpo)",
    "reward": "Reward models (objective reward)",
    "ppo": "Reinforcement from rewards (objective ppo)",
    "": "Layers, to be laid over a recipe",
}


def recipes(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="WORD", help="only those whose line holds all of these words", show_default=False),
    ] = None,
) -> None:
    """List the built-in recipes and layers.

    For example: tunesmith recipes, tunesmith recipes tulu ppo
    """
    found = [entry for entry in list_catalog() if _matches(entry, words or ())]
    if not found:
        advice = "`tunesmith recipes` alone lists all"
        raise UsageError(f"no recipe or layer has the words {' '.join(words or ())!r}", advice=advice)
    for objective, heading in HEADINGS.items():
        group = [entry for entry in found if entry.objective == objective]
        width = max((len(entry.name) for entry in group), default=0)
        lines = [f"  {entry.name:{width}}  {entry.about}" for entry in group]
        if lines:
            print("\n".join([f"{heading}:", *lines, ""]))
    print("Look at one with `tunesmith show NAME`, run it with `tunesmith train NAME`.")


def _matches(entry: CatalogEntry, words: Sequence[str]) -> bool:
    text = f"{entry.name} {entry.about} {HEADINGS[entry.objective]}".lower()
    return all(word.lower() in text for word in words)


def show(
    words: Words,
    as_json: Annotated[bool, typer.Option("--json", help="JSON: the recipe, and the origin of every value.")] = False,
) -> None:
    """Print a recipe with all its values, each followed by where it came from: file and line, command line, default."""
    loaded = load(*split_words(words))
    if as_json:
        origins = {key: str(origin) for key, origin in loaded.origins.items()}
        print(json.dumps({"recipe": loaded.recipe.model_dump(mode="json"), "origins": origins}, indent=2))
        return
    coloured = sys.stdout.isatty()
    for text, origin in annotated_lines(loaded):
        comment = f"{'':{max(2, ORIGIN_COLUMN - len(text))}}# {origin}" if origin else ""
        print(text + (typer.style(comment, dim=True) if coloured and comment else comment))


def schema(
    output: Annotated[Path | None, typer.Option(help="Write it to this file instead of printing it.")] = None,
) -> None:
    """Print the JSON schema of recipes. An editor that knows it completes keys and underlines mistakes."""
    text = json.dumps(json_schema(), indent=2) + "\n"
    if output is None:
        print(text, end="")
    else:
        write_file(output, text)
        print(f"wrote {output}", file=sys.stderr)
