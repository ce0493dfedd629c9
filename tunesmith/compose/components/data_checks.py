"""Whether data fit the objective: readers that give what it needs, and scores where its loss reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from tunesmith.data.dataset.prepare import Prepared
from tunesmith.data.dataset.store import Store
from tunesmith.data.readers.registry import READERS, Purpose, purpose
from tunesmith.errors import DataError, RecipeError
from tunesmith.recipe.data import AUTO
from tunesmith.recipe.schema import DataSourceConfig, Recipe

USES: Mapping[Purpose, str] = {"demonstrations": "imitates replies", "rankings": "compares replies to one prompt"}
"""What a reader gives -> what an objective that needs it does."""
OPTION_VALUES: Mapping[str, Mapping[Purpose, str]] = {
    "replies": {"demonstrations": "best", "rankings": "all"},
    "keep": {"demonstrations": "threads", "rankings": "rankings"},
}
"""Option of a reader -> what is needed -> the value that gives it."""
SCALE_KEY = "objective.margin_scale"


def check_sources(recipe: Recipe) -> None:
    """Raises RecipeError for the first source whose reader does not give what the objective needs.

    Supervised fine-tuning imitates only the best of ranked replies; preferences need at least two replies to compare.
    """
    needed = recipe.objective.reader_purpose
    if needed is None:
        return
    for key, sources in (("sources", recipe.data.sources), ("validation_sources", recipe.data.validation_sources)):
        for index, source in enumerate(sources):
            if source.reader == AUTO:
                continue  # what it gives is known when it is recognised
            found = purpose(source.reader, source.options)
            if found != needed:
                raise _unfit_reader(recipe.objective.kind, f"data.{key}.{index}", source, found, needed)


def _unfit_reader(kind: str, where: str, source: DataSourceConfig, found: Purpose, needed: Purpose) -> RecipeError:
    what, purposes = f"objective {kind} {USES[needed]}, and reader {source.reader} gives {found}", ""
    if found == "rankings":
        what = f"objective {kind} would imitate rejected replies too"
        purposes = "to train on chosen and rejected replies use the recipe dpo; to imitate the chosen ones "
    option = next((name for name in OPTION_VALUES if name in READERS[source.reader].options), None)
    if option is not None:
        key = f"{where}.options.{option}"
        return RecipeError(what, where=key, advice=f"{purposes}append {key}={OPTION_VALUES[option][needed]}")
    fitting = ", ".join(name for name in READERS if purpose(name, {}) == needed)
    return RecipeError(what, where=f"{where}.reader", advice=f"name one that gives {needed}: {fitting}")


def check_reply_scores(recipe: Recipe, prepared: Prepared, evaluated: Prepared | None) -> None:
    """Raises DataError if the loss scales scores of the data and a reply that is compared has none."""
    scale = recipe.objective.score_scale
    if not scale:
        return
    for store, names in _stores(prepared, evaluated):
        missing = np.array([bool(np.isnan(store.tree(number).scores).any()) for number in range(len(store))], np.bool_)
        if missing.any():
            source = int(store.source[np.flatnonzero(missing)[0]])
            in_source = store.source == source
            raise DataError(
                f"{SCALE_KEY} is {scale:g} and needs a score for every reply that is compared; "
                f"{int((missing & in_source).sum()):,} of {int(in_source.sum()):,} records have replies without one",
                where=f"data source {names[source]}",
                advice=f"set {SCALE_KEY} to 0, or use data with scores",
            )


def _stores(prepared: Prepared, evaluated: Prepared | None) -> Iterator[tuple[Store, Sequence[str]]]:
    """Every store of a run with the names of its sources."""
    names = list(prepared.report.sources)
    yield prepared.train, names
    if prepared.validation is not None:
        yield prepared.validation, names
    if evaluated is not None:
        yield evaluated.train, list(evaluated.report.sources)
