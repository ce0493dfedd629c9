"""Preparing data: from the sources of a recipe to stores of token trees, through a cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.data.dataset.building import Progress, build_store, row_chunks
from tunesmith.data.dataset.cache_key import cache_key
from tunesmith.data.dataset.duplicates import KEEP_ALL, DuplicateFinder, DuplicateSettings, signatures
from tunesmith.data.dataset.faults import QUARANTINE, STRICT, BadRows
from tunesmith.data.dataset.rendering import RenderSettings, Work, load_renderer
from tunesmith.data.dataset.report import DataReport, SourceCounts, SplitCounts
from tunesmith.data.dataset.split import content_key, limit_records, split_records
from tunesmith.data.dataset.store import Store, exclusive_lock, open_store, read_index
from tunesmith.data.dataset.workers import default_processes, render_all
from tunesmith.data.readers.pipeline import Pipeline, read_trees
from tunesmith.data.readers.source_config import SourceConfig
from tunesmith.data.sources.source import OpenedSource, open_source
from tunesmith.errors import RecipeError
from tunesmith.files import fingerprint, remove_unfinished


@dataclass(frozen=True, slots=True)
class Prepared:
    """Tokenized data.

    train: the training records.
    validation: the records that were held out, or None.
    report: counts of all records and tokens.
    directory: of the cache that holds them.
    key: digest of everything that decides the token trees.
    content: digest of the token trees; another version of the code may give the same.
    data: digest of the content of every source by its name.
    quarantine: the file of bad rows that were left out; None without any.
    """

    train: Store
    validation: Store | None
    report: DataReport
    directory: Path
    key: str
    content: str
    data: Mapping[str, str]
    quarantine: Path | None = None

    def limit(self, limits: Sequence[int | None], seed: int) -> Prepared:
        """The same data with at most so many training records of each source.

        limits: for each source the most records; None for all.
        seed: of the hash of their content that chooses them.
        """
        everything = np.ones(len(self.train), dtype=np.bool_)
        mask = limit_records(self.train.keys, self.train.source, everything, limits, seed)
        return replace(self, train=self.train.subset(mask))


def prepare(
    sources: Sequence[SourceConfig],
    render: RenderSettings,
    *,
    validation: int | float,
    seed: int,
    cache: Path,
    duplicates: DuplicateSettings = KEEP_ALL,
    known: Sequence[SourceConfig] = (),
    bad_rows: BadRows = STRICT,
    workers: int | None = None,
    progress: Progress = lambda done, total, label: None,
) -> Prepared:
    """The token trees of all sources, from the cache if it has them; otherwise they are built and cached.

    sources: in order; their names differ.
    render: decides the tokens of a tree.
    validation: a number of records or a fraction that is held out of the sources without an ``amount``; see
        ``split.split_records``.
    seed: of the split.
    cache: the directory of all caches.
    duplicates: what happens with them, within a source and across; the first in the order of the sources is kept.
    known: further sources whose records count as earlier ones when duplicates are dropped.
    bad_rows: by default one bad row stops everything, and nothing is stored.
    workers: processes; 0 for none, None for one a core.
    progress: called now and then.

    Raises DataError (with the first 20 places), MissingInputError (no source, or no record is left), RecipeError,
    StorageError.
    """
    names = [config.name for config in sources]
    if len(set(names)) < len(names):
        raise RecipeError(
            f"two data sources have the same name ({', '.join(names)})", advice="give them different names"
        )
    pipelines = [Pipeline(config) for config in sources]  # errors of the recipe are raised before anything is read
    renderer = load_renderer(render)
    work = Work(render, renderer.tokenizer.fingerprint, tuple(sources), signed=duplicates.policy == "near")
    opened = [_open_source(config) for config in sources]
    data = {config.name: source.digest for config, source in zip(sources, opened, strict=True)}
    earlier = known if duplicates.policy != "keep" else ()
    key = cache_key(work, data, duplicates, [(config, _open_source(config).digest) for config in earlier])
    directory = cache / key[:32]
    with exclusive_lock(
        directory, lambda: progress(0, None, "waiting for another process that prepares the same data")
    ):
        index = read_index(directory / "store", key)
        if index is None or not _is_usable(index, directory / "store", bad_rows):
            remove_unfinished(directory)
            chunks = row_chunks(pipelines, opened, progress)
            rendered = render_all(work, renderer, chunks, default_processes() if workers is None else workers)
            finder = _duplicate_finder(duplicates, earlier)
            build_store(work, rendered, finder, bad_rows, key, directory / "store")
            index = read_index(directory / "store", key)
            assert index is not None, directory
    left_out = {config.name: source.left_out for config, source in zip(sources, opened, strict=True) if source.left_out}
    prepared = _open(directory, index, data, sources, validation, seed)
    return replace(prepared, report=replace(prepared.report, left_out=left_out))


def _open_source(config: SourceConfig) -> OpenedSource:
    return open_source(config.path, config.split, config.config, config.key)


def _duplicate_finder(settings: DuplicateSettings, known: Sequence[SourceConfig]) -> DuplicateFinder:
    """A finder that has the records of the known sources."""
    finder = DuplicateFinder(settings)
    for tree in read_trees(known):
        finder.add(content_key(tree), signatures(tree) if settings.policy == "near" else None)
    return finder


def _open(
    directory: Path,
    index: Mapping[str, Any],
    data: Mapping[str, str],
    sources: Sequence[SourceConfig],
    validation: int | float,
    seed: int,
) -> Prepared:
    """The store of a directory, split and counted. Raises DataError where nothing is left to train on."""
    train, held_out = _split(open_store(directory / "store", index), sources, validation, seed)
    counts = _source_counts(index)
    report = DataReport(
        counts,
        index["report"]["duplicates"],
        _split_counts(train),
        None if held_out is None else _split_counts(held_out),
        index["records"] - len(train) - (0 if held_out is None else len(held_out)),
    )
    quarantine = directory / "store" / QUARANTINE if any(count.bad for count in counts.values()) else None
    return Prepared(train, held_out, report, directory, index["key"], fingerprint(index["files"]), data, quarantine)


def _split(
    store: Store, sources: Sequence[SourceConfig], validation: int | float, seed: int
) -> tuple[Store, Store | None]:
    """The training records and those that are held out, if there are any. Raises DataError."""
    names, holdouts = [config.name for config in sources], [config.holdout for config in sources]
    masks = split_records(store.keys, store.source, holdouts, validation, seed, names, store.groups)
    return store.subset(masks.train), store.subset(masks.evaluated) if masks.evaluated.any() else None


def _source_counts(index: Mapping[str, Any]) -> dict[str, SourceCounts]:
    return {name: SourceCounts.from_json(content) for name, content in index["report"]["sources"].items()}


def _is_usable(index: Mapping[str, Any], directory: Path, bad_rows: BadRows) -> bool:
    """Whether an existing store has no more bad rows than allowed, and their list; building it again names them."""
    counts = _source_counts(index).values()
    bad = sum(count.bad for count in counts)
    listed = bad == 0 or (directory / QUARANTINE).is_file()
    return listed and bad_rows.allows(bad, sum(count.records for count in counts))


def _split_counts(store: Store) -> SplitCounts:
    return SplitCounts(len(store), int(store.threads.sum()), int(store.tokens.sum()), int(store.targets.sum()))
