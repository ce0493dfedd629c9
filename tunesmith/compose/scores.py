"""Scores of the data, where a loss asks for them: told before anything is trained, not in the middle of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from tunesmith.data.dataset.prepare import Prepared
from tunesmith.data.dataset.store import Store
from tunesmith.errors import DataError
from tunesmith.recipe.schema import DpoConfig, Recipe, RewardConfig

KEY = "objective.margin_scale"


def with_scores(recipe: Recipe, prepared: Prepared, evaluated: Prepared | None) -> tuple[Prepared, Prepared | None]:
    """The same data. Raises DataError if margins are asked for and a reply that is compared has no score."""
    if not isinstance(recipe.objective, DpoConfig | RewardConfig) or not recipe.objective.margin_scale:
        return prepared, evaluated
    for store, names in _stores(prepared, evaluated):
        missing = np.array([bool(np.isnan(store.tree(number).scores).any()) for number in range(len(store))], np.bool_)
        if missing.any():
            source = int(store.source[np.flatnonzero(missing)[0]])
            own = store.source == source
            raise DataError(
                f"{KEY} is {recipe.objective.margin_scale:g} and needs a score for every reply that is compared; "
                f"{int((missing & own).sum()):,} of {int(own.sum()):,} records have replies without one",
                where=f"data source {names[source]}",
                advice=f"set {KEY} to 0, or use data with scores",
            )
    return prepared, evaluated


def _stores(prepared: Prepared, evaluated: Prepared | None) -> Iterator[tuple[Store, Sequence[str]]]:
    names = list(prepared.report.sources)
    yield prepared.train, names
    if prepared.validation is not None:
        yield prepared.validation, names
    if evaluated is not None:
        yield evaluated.train, list(evaluated.report.sources)
