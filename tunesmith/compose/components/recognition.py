"""`reader: auto` of a recipe: the reader is recognised once, at the start, and from then on the recipe names it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tunesmith.data.readers.recipe_check import check_readers
from tunesmith.data.readers.recognition import NotRecognised, first_rows, recognise
from tunesmith.errors import DataError
from tunesmith.recipe.data import AUTO, DataSourceConfig
from tunesmith.recipe.load import LoadedRecipe
from tunesmith.recipe.schema import Recipe


def name_readers(loaded: LoadedRecipe, notice: Callable[[str], None]) -> LoadedRecipe:
    """The recipe with a reader in place of every `auto`. The run records it, so it cannot become another one.

    notice: is given a line for every reader that was recognised.
    Raises MissingInputError, DataError (rows that no reader reads, or more than one), InvalidRecipeError.
    """
    data = loaded.recipe.data
    if all(source.reader != AUTO for source in (*data.sources, *data.validation_sources)):
        return loaded
    found = {
        key: tuple(
            _named(loaded.recipe, f"data.{key}.{index}", source, notice)
            for index, source in enumerate(getattr(data, key))
        )
        for key in ("sources", "validation_sources")
    }
    recipe = loaded.recipe.model_copy(update={"data": data.model_copy(update=found)})
    named = replace(loaded, recipe=recipe)
    check_readers(named)  # options that the reader does not have
    return named


def _named(recipe: Recipe, key: str, source: DataSourceConfig, notice: Callable[[str], None]) -> DataSourceConfig:
    if source.reader != AUTO:
        return source
    rows = first_rows(source.path, source.split, source.config, key)
    found = recognise(rows, recipe.objective.reader_purpose, source.ignore, key)
    if isinstance(found, NotRecognised):
        raise DataError(found.what, where=source.path, advice=found.advice(key))
    notice(f"{source.name}: {found.description()}")
    reading = found.reading
    options = {**reading.options, **source.options}
    return source.model_copy(update={"reader": reading.reader, "fields": dict(reading.fields), "options": options})
