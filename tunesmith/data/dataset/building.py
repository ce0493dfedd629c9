"""Building a store: the rows of all sources in chunks, rendered, without duplicates, written and accounted for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from tunesmith.data.dataset.duplicates import DuplicateFinder
from tunesmith.data.dataset.faults import QUARANTINE, BadRows, FaultLog, RowFault
from tunesmith.data.dataset.rendering import (
    REASONS,
    RenderedChunk,
    RenderSettings,
    RowChunk,
    Work,
)
from tunesmith.data.dataset.report import REPORT_IT, SourceCounts, reasons
from tunesmith.data.dataset.store import Chunk, StoreWriter, open_writer
from tunesmith.data.readers.pipeline import Pipeline
from tunesmith.data.sources.rows import AnyRow
from tunesmith.data.sources.source import OpenedSource, read_rows
from tunesmith.errors import DataError, InternalError, MissingInputError
from tunesmith.files import new_directory

Progress = Callable[[int, int | None, str], None]
"""Called with the work that is done, the whole work (or None), and what is being done."""

ROWS_IN_CHUNK = 256
BYTES_IN_CHUNK = 4 * 2**20
PARTS = 1000  # progress is reported in thousandths of a source


def row_chunks(pipelines: Sequence[Pipeline], opened: Sequence[OpenedSource], progress: Progress) -> Iterator[RowChunk]:
    """The rows of all sources in order, in chunks of one source. A row that cannot be parsed is a fault in its place.

    pipelines, opened: of the sources.
    progress: called for every chunk.
    Raises MissingInputError for a source without rows.
    """
    for index, (pipeline, source) in enumerate(zip(pipelines, opened, strict=True)):
        name, size = pipeline.config.name, sum(file.size for file in source.files)
        count, rows, start, share = 0, list[AnyRow | RowFault](), 0.0, 0.0
        for row in _rows(pipeline, source):
            count += 1
            rows.append(row)
            share = start if isinstance(row, RowFault) else row.share
            if len(rows) == ROWS_IN_CHUNK or (share - start) * size > BYTES_IN_CHUNK:
                progress(int(share * PARTS), PARTS, f"{name}: {count:,} records")
                yield RowChunk(index, tuple(rows))
                rows, start = [], share
        if rows:
            yield RowChunk(index, tuple(rows))
        if not count:
            raise MissingInputError(
                "the source has no records", where=pipeline.config.path, advice="check what was exported"
            )
        progress(PARTS, PARTS, f"{name}: {count:,} records")


def _rows(pipeline: Pipeline, source: OpenedSource) -> Iterator[AnyRow | RowFault]:
    """The rows of a source as its reader is given them, and the faults of those that could not be parsed."""
    try:
        for row in pipeline.group(read_rows(source)):
            yield RowFault(row.what, row.where, row.advice) if isinstance(row, DataError) else row
    except DataError as error:
        yield RowFault(error.what, error.where, error.advice, final=True)


def build_store(
    work: Work,
    chunks: Iterator[RenderedChunk],
    duplicates: DuplicateFinder,
    bad_rows: BadRows,
    key: str,
    directory: Path,
) -> None:
    """Write the store; it appears in ``directory`` when it is complete, or not at all.

    work: how rows became token trees.
    chunks: of all sources, in order.
    duplicates: has the records that count as earlier ones.
    bad_rows: how many rows may be left out.
    key: of the cache.
    Raises DataError, MissingInputError (no record is left), InternalError, StorageError.
    """
    names = [config.name for config in work.sources]
    counts = {name: SourceCounts() for name in names}
    faults, copies = FaultLog(bad_rows), 0
    with new_directory(directory) as temporary, open_writer(temporary) as writer:
        with (temporary / QUARANTINE).open("wb") as quarantine:
            for chunk in chunks:
                repeated = [duplicates.add(record.key, record.signature) for record in chunk.records]
                copies += sum(repeated)
                trees = _without_duplicates(chunk, repeated) if duplicates.drops else chunk.trees
                counts[names[chunk.source]].add(chunk.counts)
                faults.add(chunk.faults)
                quarantine.writelines(fault.line() for fault in chunk.faults if bad_rows.skip)
                if not faults.must_fail:
                    writer.append(trees)
        faults.check(sum(count.records for count in counts.values()))
        _check_counts(counts, writer, work.render)
        if not faults.causes:
            (temporary / QUARANTINE).unlink()
        sources = {name: count.as_json() for name, count in counts.items()}
        writer.finish(key, names, {"sources": sources, "duplicates": 0 if duplicates.drops else copies})


def _without_duplicates(chunk: RenderedChunk, repeated: Sequence[bool]) -> Chunk:
    """The token trees of the records that repeat none; the counts of the chunk are changed accordingly."""
    for record, repeats in zip(chunk.records, repeated, strict=True):
        if repeats:
            chunk.counts.drop_duplicate(record.targets, record.context)
    return chunk.trees.subset(~np.asarray(repeated, dtype=np.bool_))


def _check_counts(counts: Mapping[str, SourceCounts], written: StoreWriter, render: RenderSettings) -> None:
    """Raises InternalError if a record was lost, MissingInputError if none is left."""
    for count in counts.values():
        count.check()
    counted = tuple(sum(getattr(count, name) for count in counts.values()) for name in ("used", "trained"))
    stored = (written.records, written.targets)
    if counted != stored:
        what = "{:,} records and {:,} targets are"
        raise InternalError(f"{what.format(*counted)} counted, {what.format(*stored)} stored", advice=REPORT_IT)
    if any(count.used for count in counts.values()):
        return
    rejected = sum((count.rejected for count in counts.values()), Counter[str]())
    rejected += Counter(quarantined=sum(count.bad for count in counts.values()))
    rejected += Counter(duplicates=sum(count.duplicates for count in counts.values()))
    advice = "check the options and filters of the sources"
    if rejected[REASONS["too_long"]] == max(rejected.values()):
        limits = f"text.max_length ({render.max_length:,})"
        if render.max_target_length is not None:
            limits += f" or text.max_target_length ({render.max_target_length:,})"
        advice = f"raise {limits}, or set text.truncation ({render.truncation}) to right"
    elif rejected[REASONS["no_target"]] == max(rejected.values()):
        advice = "no reply is trained: see text.targets, and keys of the messages such as train: false"
    what = f"none of {sum(count.records for count in counts.values()):,} records is left ({reasons(rejected)})"
    raise MissingInputError(what, advice=advice)
