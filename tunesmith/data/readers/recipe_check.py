"""Unknown fields and options of readers are found in the recipe, before any data are opened."""

from __future__ import annotations

from collections.abc import Iterator

from tunesmith.data.readers.registry import find_setting_problems
from tunesmith.recipe.data import AUTO
from tunesmith.recipe.load import LoadedRecipe
from tunesmith.recipe.problems import DEFAULT, InvalidRecipeError, RecipeProblem


def check_readers(loaded: LoadedRecipe) -> None:
    """Raises InvalidRecipeError for every field or option that the reader of its source does not have."""
    problems = [*_find_problems(loaded)]
    if problems:
        raise InvalidRecipeError(problems)


def _find_problems(loaded: LoadedRecipe) -> Iterator[RecipeProblem]:
    data = loaded.recipe.data
    for section, sources in (("sources", data.sources), ("validation_sources", data.validation_sources)):
        for index, source in enumerate(sources):
            if source.reader == AUTO:
                continue  # its options are compared with the reader that is recognised
            for key, what, advice in find_setting_problems(source.reader, source.fields, source.options):
                full = f"data.{section}.{index}.{key}"
                yield RecipeProblem(loaded.origins.get(full, DEFAULT), full, f"{what}; {advice}")
