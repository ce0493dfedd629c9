"""Loads recipes from names, files and single values; other packages load recipes only through this module."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tunesmith.errors import UsageError
from tunesmith.recipe.json_schema import json_schema
from tunesmith.recipe.layers import EXTENDS, LAYER, RecipeFile, RecipeFiles, catalog_files, merge
from tunesmith.recipe.missing import DATA_PATH, find_missing, find_placeholders
from tunesmith.recipe.overrides import is_override, override
from tunesmith.recipe.problems import COMMAND_LINE, DEFAULT, InvalidRecipeError, Origin
from tunesmith.recipe.reading import LocatedValue, read_text, to_located, to_plain
from tunesmith.recipe.run_names import DATA_PLACE, data_suffix
from tunesmith.recipe.schema import Recipe
from tunesmith.recipe.validation import validate
from tunesmith.recipe.writing import yaml_lines

__all__ = [
    "CatalogEntry",
    "LoadedRecipe",
    "annotated_lines",
    "dump",
    "json_schema",
    "list_catalog",
    "load",
    "load_incomplete",
    "load_mapping",
    "split_words",
    "with_values",
]


@dataclass(frozen=True, slots=True)
class LoadedRecipe:
    """A validated recipe with the origins of its values.

    recipe: the recipe.
    origins: dotted key, such as ``train.learning_rate`` -> where its value was given, for every value.
    """

    recipe: Recipe
    origins: Mapping[str, Origin]


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """One built-in recipe or layer.

    name: its name on the command line.
    kind: whether it is a recipe or a layer.
    about: its description in one line.
    objective: the kind of objective of a recipe (``sft``, ``dpo``, ...); empty for a layer.
    own_data: whether it is a recipe without data, which are those of the user.
    """

    name: str
    kind: Literal["recipe", "layer"]
    about: str
    objective: str = ""
    own_data: bool = False


def split_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Words of a command line -> (recipes and layers, single values)."""
    return [word for word in words if not is_override(word)], [word for word in words if is_override(word)]


def load(names: Sequence[str], overrides: Sequence[str] = ()) -> LoadedRecipe:
    """A recipe with layers and single values applied to it; the later one wins.

    names: names of the catalog or YAML files; the first is a recipe, the others may be layers.
    overrides: single values, ``key=value`` or ``key+=[...]``, which win over all files.
    Raises UsageError, MissingInputError (no such file), RecipeError (no such name, or a cycle) or InvalidRecipeError,
    which has all unknown keys, wrong types and conflicts at once.
    """
    file, merged = _merge_words(names, overrides)
    return _locate(validate(merged, names[0], extends=file.extends), file, merged)


def load_mapping(values: Mapping[str, Any], overrides: Sequence[str] = (), layers: Sequence[str] = ()) -> LoadedRecipe:
    """A recipe that is given as the mapping that a file would hold, with layers and single values applied to it.

    Names of files under ``extends`` are relative to the current directory. Raises as ``load``.
    """
    _check_file_keys(layers, overrides)
    origin, files = Origin("mapping"), RecipeFiles()
    file = files.extend(to_located(values, origin), str(origin))
    merged = _merge_files(str(origin), [file, *map(files.load, layers)], overrides)
    return _locate(validate(merged, str(origin), extends=file.extends), file, merged)


def with_values(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """A recipe with single values applied to it. Raises InvalidRecipeError as ``load``."""
    located = read_text(dump(recipe), recipe.name)
    return validate(_apply_overrides(located, overrides), recipe.name)


def load_incomplete(names: Sequence[str], overrides: Sequence[str] = ()) -> LoadedRecipe:
    """Like ``load``, but values that only the user knows may be missing: each of them is a placeholder.

    The origin of a placeholder is ``missing: append KEY=VALUE``. A recipe lacks too much if there is no usual value for
    one of its missing keys; then the error is that of ``load``.
    """
    file, merged = _merge_words(names, overrides)
    placeholders = find_placeholders(to_plain(merged))
    complete = _apply_overrides(merged, [f"{key}={word}" for key, word in placeholders.items()])
    loaded = _locate(validate(complete, names[0], extends=file.extends), file, complete)
    missing = {key: Origin(f"missing: append {key}={word}") for key, word in placeholders.items()}
    return LoadedRecipe(loaded.recipe, {**loaded.origins, **missing})


def _merge_words(names: Sequence[str], overrides: Sequence[str]) -> tuple[RecipeFile, LocatedValue]:
    """The first file, and the values of all files and single values."""
    if not names:
        raise UsageError("no recipe is given", advice="name one first; `tunesmith recipes` lists the built-in ones")
    _check_file_keys(names, overrides)
    files = RecipeFiles()
    loaded = [files.load(name) for name in names]
    return loaded[0], _merge_files(names[0], loaded, overrides)


def _merge_files(name: str, loaded: Sequence[RecipeFile], overrides: Sequence[str]) -> LocatedValue:
    """The values of a recipe with this name, of the layers after it, and single values."""
    if loaded[0].layer_purpose is not None:
        message = f"{name!r} is a layer, which is applied to a recipe"
        raise UsageError(message, advice=f"name a recipe before it, such as: dolly-v2-3b {name}")
    merged = loaded[0].content
    for file in loaded[1:]:
        merged = merge(merged, file.content)
    return _apply_overrides(merged, overrides)


def _check_file_keys(names: Sequence[str], overrides: Sequence[str]) -> None:
    """Raises UsageError for single values with a key that only a file can have."""
    for word in overrides:
        key, _, value = word.partition("=")
        if key == EXTENDS:
            words = shlex.join([value, *names])
            advice = f"name the recipe first: `tunesmith train {words}`"
            raise UsageError("extends is a key of files", where=str(COMMAND_LINE), advice=advice)
        if key == LAYER:
            raise UsageError("layer is a key of files", where=str(COMMAND_LINE), advice="write it in the file")


def _locate(recipe: Recipe, file: RecipeFile, merged: LocatedValue) -> LoadedRecipe:
    """The recipe with the directory of its run and the origins of its values. file: the first one."""
    named = _name_data(recipe, file)
    return LoadedRecipe(named, {".".join(path): origin for path, origin in _origins(_values(named), merged, ())})


def _name_data(recipe: Recipe, file: RecipeFile) -> Recipe:
    """The recipe with the name of its data in ``run.directory``, if they are not those of its file."""
    own = to_plain(file.content).get("data")
    suffix = data_suffix(own.get("sources") if isinstance(own, dict) else None, recipe.data.sources)
    run = recipe.run.model_copy(update={"directory": recipe.run.directory.replace(DATA_PLACE, suffix)})
    return recipe.model_copy(update={"run": run})


def _apply_overrides(base: LocatedValue, overrides: Sequence[str]) -> LocatedValue:
    """The base with all single values. Raises InvalidRecipeError with the problems of all of them."""
    errors: list[InvalidRecipeError] = []
    for word in overrides:
        try:
            base = override(base, word)
        except InvalidRecipeError as error:
            errors.append(error)
    if errors:
        raise InvalidRecipeError(problem for error in errors for problem in error.problems)
    return base


def dump(recipe: Recipe) -> str:
    """The recipe as YAML with every value, including defaults; the text loads to an equal recipe."""
    return "".join(f"{line.text}\n" for line in yaml_lines(_values(recipe)))


def annotated_lines(loaded: LoadedRecipe) -> Iterator[tuple[str, str]]:
    """The lines of ``dump``, each with the origin of its value; empty for lines that only open a mapping or list."""
    for line in yaml_lines(_values(loaded.recipe)):
        yield line.text, "" if line.path is None else str(loaded.origins[".".join(line.path)])


def list_catalog() -> list[CatalogEntry]:
    """The built-in recipes, then the layers, each sorted by name."""
    files, entries = RecipeFiles(), list[CatalogEntry]()
    for name in catalog_files():
        file = files.load(name)
        if file.layer_purpose is None:
            given = to_plain(file.content)
            objective = given.get("objective", {}).get("kind", "sft")
            own_data = DATA_PATH in find_missing(given)
            entries.append(CatalogEntry(name, "recipe", str(given.get("about", "")), objective, own_data))
        else:
            entries.append(CatalogEntry(name, "layer", file.layer_purpose))
    return sorted(entries, key=lambda entry: (entry.kind != "recipe", entry.name))


def _values(recipe: Recipe) -> dict[str, Any]:
    return recipe.model_dump(mode="python")


def _origins(value: Any, given: LocatedValue | None, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Origin]]:
    """(path, origin) of every value to which ``yaml_lines`` gives a line."""
    content = None if given is None else given.value
    if isinstance(value, dict) and value:
        for key, child in value.items():
            given_child = content.get(key) if isinstance(content, dict) else None
            yield from _origins(child, given_child, (*path, key))
    elif isinstance(value, list | tuple) and value and all(isinstance(item, dict) and item for item in value):
        for index, item in enumerate(value):
            given_child = content[index] if isinstance(content, list) else None
            yield from _origins(item, given_child, (*path, str(index)))
    else:
        yield path, DEFAULT if given is None else given.origin
