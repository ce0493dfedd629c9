"""`tunesmith recipes`, `show` and `schema`: everything about recipes that needs no model."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from tunesmith.files import write_file
from tunesmith.recipe.load import annotated, catalogue, json_schema, load, split_words

ORIGIN_COLUMN = 56  # where the comments begin, if the line leaves room

Words = Annotated[
    list[str],
    typer.Argument(
        metavar="RECIPE|LAYER|KEY=VALUE",
        help="A built-in recipe or a .yaml file, then layers and single values to lay over it; right wins.",
        show_default=False,
    ),
]


def recipes() -> None:
    """List the built-in recipes and layers."""
    entries = catalogue()
    width = max(len(entry.name) for entry in entries)
    for kind, heading in (("recipe", "Recipes"), ("layer", "Layers, to be laid over a recipe")):
        print(f"{heading}:")
        for entry in entries:
            if entry.kind == kind:
                print(f"  {entry.name:{width}}  {entry.about}")
    print("\nLook at one with `tunesmith show NAME`, run it with `tunesmith train NAME`.")


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
    for text, origin in annotated(loaded):
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
