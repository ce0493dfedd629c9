"""From sources to stores: read, render, keep under a name that says what it was made from, and account for everything."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from tunesmith.data.dataset.duplicates import KEEP_ALL, Duplicates, DuplicateSettings, signatures
from tunesmith.data.dataset.faults import QUARANTINE, STRICT, BadRows, Fault, Faults
from tunesmith.data.dataset.rendering import (
    REASONS,
    ROWS_IN_CHUNK,
    ReaderSettings,
    Rendered,
    RenderSettings,
    SourceRow,
    Work,
    load_renderer,
    open_readers,
    render_all,
)
from tunesmith.data.dataset.report import REPORT_IT, DataReport, SourceCounts, SplitCounts, reasons
from tunesmith.data.dataset.split import content_key, divide, limited
from tunesmith.data.dataset.store import Chunk, Store, StoreWriter, exclusive, open_store, read_index, writing
from tunesmith.data.readers.groups import GroupedRows, grouped
from tunesmith.data.readers.pipeline import read_trees
from tunesmith.data.readers.registry import group_column
from tunesmith.data.readers.source_config import SourceConfig
from tunesmith.data.sources.source import OpenedSource, Row, entries, open_source
from tunesmith.errors import DataError, InternalError, MissingInputError, RecipeError
from tunesmith.files import fingerprint, new_directory, remove_unfinished, sha256

Progress = Callable[[int, int | None, str], None]

PACKAGE = Path(__file__).parent.parent.parent
MOST_PROCESSES = 16
PARTS = 1000  # progress is told in thousandths of a source
BYTES_IN_CHUNK = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Prepared:
    """key: digest of all that decides the token trees. content: digest of the token trees themselves, which another
    version of the code may well make alike. data: digest of the content of every source by its name. quarantine: the file
    of bad rows that were left out, if there are any."""

    train: Store
    validation: Store | None
    report: DataReport
    directory: Path
    key: str
    content: str
    data: Mapping[str, str]
    quarantine: Path | None = None

    def limited(self, most: Sequence[int | None], seed: int) -> Prepared:
        """The same with at most so many records of each source for training, chosen by seed and content."""
        everything = np.ones(len(self.train), dtype=np.bool_)
        return replace(self, train=self.train.part(limited(self.train.keys, self.train.source, everything, most, seed)))


def prepare(
    sources: Sequence[SourceConfig],
    render: RenderSettings,
    *,
    validation: int | float,
    seed: int,
    cache: Path,
    duplicates: DuplicateSettings = KEEP_ALL,
    seen: Sequence[SourceConfig] = (),
    bad_rows: BadRows = STRICT,
    workers: int | None = None,
    progress: Progress = lambda done, total, label: None,
) -> Prepared:
    """The token trees of all sources, from the cache if they are there, otherwise made and put there.

    validation: a number of records or a share that is held back of the sources that say nothing of their own; see
    ``split.divide``. duplicates: those within a source and across, the first in the order of the sources stays. seen:
    further sources that come before them in this order, and nothing else. bad_rows: by default one bad record stops
    everything, and nothing is kept. workers: processes; 0 for none, None for one a core.
    Raises DataError (with the first 20 places), MissingInputError (nothing there, nothing left), RecipeError, StorageError.
    """
    names = [spec.name for spec in sources]
    if len(set(names)) < len(names):
        raise RecipeError(f"two data sources have the same name ({', '.join(names)})", advice="give each its own")
    readers = tuple(_reader_settings(spec) for spec in sources)
    open_readers(readers)  # faults of the recipe show before anything is read
    renderer = load_renderer(render)
    work = Work(render, renderer.tokenizer.fingerprint, readers, signed=duplicates.policy == "near")
    opened = [open_source(spec.path, spec.split) for spec in sources]
    data = {spec.name: source.digest for spec, source in zip(sources, opened, strict=True)}
    before = seen if duplicates.policy != "keep" else ()
    key = cache_key(
        work, data, duplicates, [(_reader_settings(spec), open_source(spec.path, spec.split).digest) for spec in before]
    )
    directory = cache / key[:32]
    with exclusive(directory, lambda: progress(0, None, "another process is preparing the same data, waiting")):
        index = read_index(directory / "store", key)
        if index is None or not _tolerable(index, directory / "store", bad_rows):
            remove_unfinished(directory)
            parts = render_all(
                work, renderer, _chunks(list(zip(sources, opened, strict=True)), progress), _processes(workers)
            )
            known = Duplicates(duplicates)
            for tree in read_trees(before):
                known.repeats(content_key(tree), signatures(tree) if work.signed else None)
            _make(work, parts, known, bad_rows, key, directory / "store")
            index = read_index(directory / "store", key)
            assert index is not None, directory
    everything = open_store(directory / "store", index)
    sides = divide(everything.keys, everything.source, [spec.holdout for spec in sources], validation, seed, names)
    train = everything.part(sides.train)
    held = everything.part(sides.evaluated) if sides.evaluated.any() else None
    counts = _tallies(index)
    aside = len(everything) - len(train) - (0 if held is None else len(held))
    report = DataReport(
        counts, index["report"]["duplicates"], _side(train), None if held is None else _side(held), aside
    )
    quarantine = directory / "store" / QUARANTINE if any(tally.bad for tally in counts.values()) else None
    return Prepared(train, held, report, directory, key, fingerprint(index["files"]), data, quarantine)


def _tallies(index: Mapping[str, Any]) -> dict[str, SourceCounts]:
    return {name: SourceCounts.of(content) for name, content in index["report"]["sources"].items()}


def _tolerable(index: Mapping[str, Any], directory: Path, bad_rows: BadRows) -> bool:
    """Whether a store that is there leaves out no more bad rows than it may, and says which; making it again names them."""
    counts = _tallies(index).values()
    bad = sum(tally.bad for tally in counts)
    named = bad == 0 or (directory / QUARANTINE).is_file()
    return named and bad_rows.allows(bad, sum(tally.records for tally in counts))


def cache_key(
    work: Work,
    data: Mapping[str, str],
    duplicates: DuplicateSettings,
    seen: Sequence[tuple[ReaderSettings, str]] = (),
) -> str:
    """Digest of all that decides the token trees: data, readers, tokenizer, format, limits, and the code that does it.

    How many bad rows are allowed has no part in it: the same rows are left out, or nothing is made.
    """
    settings = asdict(work.render)
    del settings["tokenizer"], settings["revision"]  # where it was found does not matter, what it is does
    return fingerprint(
        {
            "data": list(data.items()),
            "readers": [asdict(reader) for reader in work.readers],
            "render": settings,
            "duplicates": [duplicates.policy, duplicates.threshold if duplicates.policy == "near" else None],
            "seen": [[asdict(reader), digest] for reader, digest in seen],
            "tokenizer": work.fingerprint,
            "library": tokenizers.__version__,
            "code": _code_digest(),
        }
    )


def _code_digest() -> str:
    """Digest of the code of reading and rendering, so that nobody has to remember to raise a number when it changes."""
    files = sorted(file for folder in ("text", "data") for file in (PACKAGE / folder).rglob("*.py"))
    return fingerprint([(file.name, sha256(file)) for file in files])


def _reader_settings(spec: SourceConfig) -> ReaderSettings:
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in spec.options.items()}
    fields = tuple(sorted(spec.fields.items()))
    return ReaderSettings(spec.name, spec.reader, fields, tuple(sorted(options.items())), spec.filters, spec.prompts)


def _side(store: Store) -> SplitCounts:
    return SplitCounts(len(store), int(store.threads.sum()), int(store.tokens.sum()), int(store.targets.sum()))


def _processes(workers: int | None) -> int:
    """One a core by default, up to the number that one process can feed with rows."""
    if workers is not None:
        return workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MOST_PROCESSES)


def _make(
    work: Work, parts: Iterator[Rendered], known: Duplicates, bad_rows: BadRows, key: str, directory: Path
) -> None:
    """Fill the store. known: the records before these. Raises DataError or MissingInputError; nothing is left behind then."""
    names = [reader.source for reader in work.readers]
    counts = {name: SourceCounts() for name in names}
    faults, copies = Faults(bad_rows), 0
    with new_directory(directory) as temporary, writing(temporary) as writer:
        with (temporary / QUARANTINE).open("wb") as quarantine:
            for part in parts:
                repeated = [known.repeats(record.key, record.signature) for record in part.records]
                copies += sum(repeated)
                chunk = _without(part, repeated) if known.drops else part.chunk
                for source, tally in part.tallies.items():
                    counts[names[source]].add(tally)
                faults.add(part.faults)
                quarantine.writelines(fault.line() for fault in part.faults if bad_rows.skip)
                if not faults.hopeless:
                    writer.append(chunk)
        faults.check(sum(tally.records for tally in counts.values()))
        _check_counts(counts, writer, work.render)
        if not faults.first:
            (temporary / QUARANTINE).unlink()
        sources = {name: tally.as_json() for name, tally in counts.items()}
        writer.finish(key, names, {"sources": sources, "duplicates": 0 if known.drops else copies})


def _without(part: Rendered, repeated: Sequence[bool]) -> Chunk:
    """The token trees of the records that repeat nothing; the tallies of the part learn of the others."""
    for record, drops in zip(part.records, repeated, strict=True):
        if drops:
            part.tallies[record.source].drop_duplicate(record.trained, record.context)
    return part.chunk.part(~np.asarray(repeated, dtype=np.bool_))


def _chunks(
    opened: Sequence[tuple[SourceConfig, OpenedSource]], progress: Progress
) -> Iterator[list[SourceRow | Fault]]:
    """The rows of all sources in order, some at a time; what is not even a row is a fault in its place."""
    number = 0
    for index, (spec, source) in enumerate(opened):
        size = sum(file.size for file in source.files)
        first, chunk, start = number, list[SourceRow | Fault](), 0.0
        for entry in _entries(spec, source):
            number += 1
            if isinstance(entry, tuple):
                error, final = entry
                chunk.append(Fault(number, index, error.what, error.where, error.advice, final=final))
                share = start
            else:
                chunk.append(SourceRow(number, index, entry.place, entry.value))
                share = entry.share
            if len(chunk) == ROWS_IN_CHUNK or (share - start) * size > BYTES_IN_CHUNK:
                progress(int(share * PARTS), PARTS, f"{spec.name}: {number - first:,} records")
                yield chunk
                chunk, start = [], share
        if chunk:
            yield chunk
        if number == first:
            raise MissingInputError("holds no records", where=spec.path, advice="check what was exported")
        progress(PARTS, PARTS, f"{spec.name}: {number - first:,} records")


def _entries(spec: SourceConfig, source: OpenedSource) -> Iterator[Row | GroupedRows | tuple[DataError, bool]]:
    """The rows of a source, put together if its reader wants that, or what is wrong with one and whether that ends the
    reading."""
    column = group_column(spec.reader, spec.fields)
    try:
        for entry in entries(source) if column is None else grouped(entries(source), column):
            yield (entry, False) if isinstance(entry, DataError) else entry
    except DataError as error:
        yield error, True


def _check_counts(counts: Mapping[str, SourceCounts], written: StoreWriter, render: RenderSettings) -> None:
    """Nothing was lost on the way, and something is left. Raises InternalError or MissingInputError."""
    for tally in counts.values():
        tally.check()
    counted = tuple(sum(getattr(tally, name) for tally in counts.values()) for name in ("used", "trained"))
    stored = (written.records, written.targets)
    if counted != stored:
        what = "{:,} records and {:,} targets are"
        raise InternalError(f"{what.format(*counted)} counted, {what.format(*stored)} stored", advice=REPORT_IT)
    if any(tally.used for tally in counts.values()):
        return
    rejected = sum((tally.rejected for tally in counts.values()), Counter[str]())
    rejected += Counter(quarantined=sum(tally.bad for tally in counts.values()))
    rejected += Counter(duplicates=sum(tally.duplicates for tally in counts.values()))
    advice = "look at the options and filters of the sources"
    if rejected[REASONS["too_long"]] == max(rejected.values()):
        limits = f"text.max_length ({render.max_length:,})"
        if render.max_target_length is not None:
            limits += f" or text.max_target_length ({render.max_target_length:,})"
        advice = f"raise {limits}, or set text.truncation ({render.truncation}) to right"
    what = f"none of {sum(tally.records for tally in counts.values()):,} records is left ({reasons(rejected)})"
    raise MissingInputError(what, advice=advice)
