"""Which record of the data is not the one that a run was trained on: by the token trees that the cache still has."""

from __future__ import annotations

from pathlib import Path

from tunesmith.compose.components.data import cache_directory, source_configs
from tunesmith.data.dataset.prepare import Prepared
from tunesmith.data.dataset.split import content_key
from tunesmith.data.dataset.store import INDEX, open_store, read_index
from tunesmith.data.readers.pipeline import read_trees
from tunesmith.errors import TunesmithError
from tunesmith.files import fingerprint, read_object
from tunesmith.recipe.schema import DataSourceConfig, Recipe

STORE = "store"


def find_store(cache: Path, content: str) -> Path | None:
    """The directory of the token trees with a digest, if the cache has them. content: as the manifest records it."""
    for path in sorted(cache.glob(f"*/{STORE}/{INDEX}")):
        try:
            index = read_object(path)
        except TunesmithError:
            continue
        if fingerprint(index.get("files")) == content:
            return path.parent
    return None


def describe_changed_record(recipe: Recipe, content: str, now: Prepared, *, validation: bool) -> str | None:
    """The place of the first record that the run did not have, or how many are missing; None if that is not known.

    content: digest of the token trees of the run.
    now: the present data.
    validation: whether these are separate validation data.
    Raises TunesmithError for data that cannot be read.
    """
    before = find_store(cache_directory(recipe), content)
    if before is None:
        return None
    known, present = _keys(before), _keys(now.directory / STORE)
    sources: tuple[DataSourceConfig, ...] = recipe.data.validation_sources if validation else recipe.data.sources
    if new := present - known:
        trees = read_trees(source_configs(recipe, sources))
        return next((tree.place for tree in trees if content_key(tree) in new), None)
    if missing := len(known - present):
        return f"{missing:,} record{'s are' if missing > 1 else ' is'} missing"
    return "the records are the same, in another order or with other columns that are not read"


def _keys(directory: Path) -> set[bytes]:
    """The content keys of all records of a store; empty if it is damaged."""
    key = read_object(directory / INDEX).get("key")
    index = read_index(directory, str(key))
    return set() if index is None else {row.tobytes() for row in open_store(directory, index).keys}
