"""Which runs are listed: by their method, and by values of their recipes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunesmith.apps.provenance.recorded_run import leaves
from tunesmith.errors import TunesmithError, UsageError
from tunesmith.recipe.keys import find_meant_key
from tunesmith.recipe.reading import parse_scalar, read_file, to_plain
from tunesmith.train.run.directory import RECIPE

METHOD = "objective.kind"


def select_runs(paths: Sequence[Path], method: str | None, values: Sequence[tuple[str, str]]) -> list[Path]:
    """The runs with a method and with some values in their recipes. A recipe that cannot be read has none.

    paths: of all runs.
    method: None for all.
    values: dotted keys, each with its value as it is written in a recipe.
    Raises UsageError for a method or a key that no run has.
    """
    recipes = {path: _recipe_values(path) for path in paths}
    known = sorted({str(recipe[METHOD]) for recipe in recipes.values() if METHOD in recipe})
    if method is not None and method not in known:
        what = f"no run here has the method {method!r}"
        raise UsageError(what, where="--method", advice=f"their methods are: {', '.join(known) or '(none)'}")
    for key, _ in values:
        if not any(key in recipe for recipe in recipes.values()):
            meant = find_meant_key(key.split("."))
            advice = f"did you mean {meant!r}?" if meant else "`tunesmith show` prints the keys of a recipe"
            raise UsageError(f"no run here has the key {key!r}", where="--where", advice=advice)
    wanted = [*((key, parse_scalar(text)) for key, text in values), *([] if method is None else [(METHOD, method)])]
    return [path for path in paths if all(_is_equal(recipes[path], key, value) for key, value in wanted)]


def _recipe_values(path: Path) -> dict[str, Any]:
    """Dotted key -> value of the recipe of a run; empty for one that cannot be read."""
    try:
        return leaves(to_plain(read_file(path / RECIPE, RECIPE)))
    except TunesmithError:
        return {}


def _is_equal(recipe: Mapping[str, Any], key: str, value: Any) -> bool:
    """Whether a recipe has a value; true is not 1."""
    return key in recipe and recipe[key] == value and isinstance(recipe[key], bool) == isinstance(value, bool)
