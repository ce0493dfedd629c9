"""`tunesmith recipes`, `show` and `schema`: commands about recipes that need no model."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from tunesmith.cli.lazy import load_part
from tunesmith.cli.words import ChangesArgument, RecipeArgument
from tunesmith.errors import UsageError
from tunesmith.files import write_file
from tunesmith.recipe.load import CatalogEntry, annotated_lines, json_schema, list_catalog, load_incomplete, split_words

ORIGIN_COLUMN = 56  # where the comments with origins begin, if the line is not longer

OWN_DATA = "Recipes for your own data"
HEADINGS = {  # objective of a recipe with data, empty for layers -> heading of its group
    "sft": "Supervised fine-tuning (objective sft)",
    "dpo": "Preference optimisation (objective dpo)",
    "reward": "Reward models (objective reward)",
    "ppo": "Reinforcement learning (objective ppo)",
    "": "Layers, which are applied to a recipe",
}


def recipes(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="WORD",
            help="List only recipes and layers whose name, description or heading contains all of these words.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """List the built-in recipes and layers: those for your own data, then the others by objective.

    For example: tunesmith recipes tulu ppo
    """
    found = [entry for entry in list_catalog() if _matches(entry, words or ())]
    if not found:
        message = f"no recipe or layer contains the words {' '.join(words or ())!r}"
        raise UsageError(message, advice="`tunesmith recipes` without words lists all")
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for heading in (OWN_DATA, *HEADINGS.values()):
        group = [entry for entry in found if _heading(entry) == heading]
        if group:
            print("\n".join([f"{heading}:", *_table(group, columns), ""]))
    print("`tunesmith show NAME` prints all values of a recipe.\n`tunesmith train NAME` trains its model.")


def _table(entries: Sequence[CatalogEntry], columns: int | None) -> list[str]:
    """One line for each entry; if a line would be longer than the terminal, every description has its own line."""
    width = max(len(entry.name) for entry in entries)
    lines = [f"  {entry.name:{width}}  {entry.about}" for entry in entries]
    if columns is None or max(map(len, lines)) <= columns:
        return lines
    return [f"  {entry.name}\n      {entry.about}" for entry in entries]


def _heading(entry: CatalogEntry) -> str:
    return OWN_DATA if entry.own_data else HEADINGS[entry.objective]


def _matches(entry: CatalogEntry, words: Sequence[str]) -> bool:
    own = OWN_DATA if entry.own_data else ""
    text = f"{entry.name} {entry.about} {HEADINGS[entry.objective]} {own}".lower()
    return all(word.lower() in text for word in words)


def show(
    recipe: RecipeArgument,
    changes: ChangesArgument = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON with the recipe and the origin of every value.")
    ] = False,
) -> None:
    """Print a recipe with all its values, each with its origin: a line of a file, the command line, or the default.

    For a value that only you can give, a placeholder is printed and the word to append.

    For example: tunesmith show dolly-v2-3b tiny train.epochs=1
    """
    loaded = load_incomplete(*split_words([recipe, *(changes or ())]))
    load_part("tunesmith.data.readers.recipe_check:check_readers")(loaded)
    if as_json:
        origins = {key: str(origin) for key, origin in loaded.origins.items()}
        print(json.dumps({"recipe": loaded.recipe.model_dump(mode="json"), "origins": origins}, indent=2))
        return
    coloured = sys.stdout.isatty()
    for text, origin in annotated_lines(loaded):
        comment = f"{'':{max(2, ORIGIN_COLUMN - len(text))}}# {origin}" if origin else ""
        print(text + (typer.style(comment, dim=True) if coloured and comment else comment))


def schema(
    output: Annotated[
        Path | None, typer.Option(help="Write the schema to this file instead of printing it.", show_default=False)
    ] = None,
) -> None:
    """Print the JSON schema of recipes, with which an editor completes keys, describes them and underlines mistakes.

    For example: tunesmith schema --output recipe.schema.json
    """
    text = json.dumps(json_schema(), indent=2) + "\n"
    if output is None:
        print(text, end="")
    else:
        write_file(output, text)
        print(f"wrote {output}", file=sys.stderr)
