"""Recipes from names, files and single values: the one entrance to this package."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tunesmith.errors import UsageError
from tunesmith.recipe.editor import json_schema
from tunesmith.recipe.faults import DEFAULT, Origin, RecipeFaults
from tunesmith.recipe.layers import Shelf, catalogue_files, merge
from tunesmith.recipe.overrides import is_override, override
from tunesmith.recipe.reading import Marked, plain
from tunesmith.recipe.schema import Recipe
from tunesmith.recipe.validation import validate
from tunesmith.recipe.writing import yaml_lines

__all__ = ["Entry", "Loaded", "annotated", "catalogue", "dump", "json_schema", "load", "split_words"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A resolved recipe. origins: ``train.learning_rate`` -> where its value came from, for every value."""

    recipe: Recipe
    origins: Mapping[str, Origin]


@dataclass(frozen=True, slots=True)
class Entry:
    """One built-in recipe or layer. objective: what a recipe optimises (``sft``, ``dpo``, ...), nothing for a layer."""

    name: str
    kind: Literal["recipe", "layer"]
    about: str
    objective: str = ""


def split_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Words of a command line -> (recipes and layers, single values)."""
    return [word for word in words if not is_override(word)], [word for word in words if is_override(word)]


def load(names: Sequence[str], overrides: Sequence[str] = ()) -> Loaded:
    """Recipes and layers laid over each other, right over left, and single values over all of them.

    names: catalogue names or YAML files; the first is a recipe. overrides: ``key=value``, ``key+=[...]``.
    Raises UsageError, MissingInputError (no such file), RecipeError (no such name, a cycle) or RecipeFaults: every
    unknown key, wrong type and impossible combination at once.
    """
    if not names:
        raise UsageError("no recipe given", advice="`tunesmith recipes` lists the built-in ones")
    shelf = Shelf()
    layers = [shelf.get(name) for name in names]
    if layers[0].about is not None:
        advice = f"put a recipe to its left, such as: dolly-v2-3b {names[0]}"
        raise UsageError(f"{names[0]!r} is a layer, to be laid over a recipe", advice=advice)
    merged = layers[0].content
    for layer in layers[1:]:
        merged = merge(merged, layer.content)
    merged = _overridden(merged, overrides)
    recipe = validate(merged)
    return Loaded(recipe, {".".join(path): origin for path, origin in _origins(_values(recipe), merged, ())})


def _overridden(base: Marked, overrides: Sequence[str]) -> Marked:
    """All single values laid over, or the faults of all of them."""
    faults: list[RecipeFaults] = []
    for word in overrides:
        try:
            base = override(base, word)
        except RecipeFaults as error:
            faults.append(error)
    if faults:
        raise RecipeFaults(fault for error in faults for fault in error.faults)
    return base


def dump(recipe: Recipe) -> str:
    """YAML with every value, defaults too; as a file it loads to the equal recipe."""
    return "".join(f"{line.text}\n" for line in yaml_lines(_values(recipe)))


def annotated(loaded: Loaded) -> Iterator[tuple[str, str]]:
    """Lines of ``dump``, each with the origin of its value (nothing for lines that only open a block)."""
    for line in yaml_lines(_values(loaded.recipe)):
        yield line.text, "" if line.path is None else str(loaded.origins[".".join(line.path)])


def catalogue() -> list[Entry]:
    """The built-in recipes, then the layers, each by name."""
    shelf, entries = Shelf(), list[Entry]()
    for name in catalogue_files():
        layer = shelf.get(name)
        if layer.about is None:
            given = plain(layer.content)
            objective = given.get("objective", {}).get("kind", "sft")
            entries.append(Entry(name, "recipe", str(given.get("about", "")), objective))
        else:
            entries.append(Entry(name, "layer", layer.about))
    return sorted(entries, key=lambda entry: (entry.kind != "recipe", entry.name))


def _values(recipe: Recipe) -> dict[str, Any]:
    return recipe.model_dump(mode="python")


def _origins(value: Any, given: Marked | None, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Origin]]:
    """Origin of every value that ``yaml_lines`` prints on a line of its own."""
    content = None if given is None else given.value
    if isinstance(value, dict) and value:
        for key, child in value.items():
            below = content.get(key) if isinstance(content, dict) else None
            yield from _origins(child, below, (*path, key))
    elif isinstance(value, list | tuple) and value and all(isinstance(item, dict) and item for item in value):
        for index, item in enumerate(value):
            below = content[index] if isinstance(content, list) else None
            yield from _origins(item, below, (*path, str(index)))
    else:
        yield path, DEFAULT if given is None else given.origin
