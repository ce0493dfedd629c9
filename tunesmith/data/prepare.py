"""From sources to stores: read, render, keep under a name that says what it was made from, and account for everything."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import tokenizers

from tunesmith.data.faults import Fault, Faults
from tunesmith.data.groups import GroupedRows, grouped
from tunesmith.data.readers import group_column
from tunesmith.data.rendering import (
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
from tunesmith.data.report import DataReport, Side, Tally, reasons
from tunesmith.data.sources import Opened, Row, SourceSpec, entries, open_source
from tunesmith.data.split import held_back
from tunesmith.data.store import Store, exclusive, open_store, read_index, writing
from tunesmith.errors import DataError, MissingInputError, RecipeError
from tunesmith.files import fingerprint, new_directory, remove_unfinished, sha256

Progress = Callable[[int, int | None, str], None]

PACKAGE = Path(__file__).parent.parent
MOST_PROCESSES = 16
PARTS = 1000  # progress is told in thousandths of a source
BYTES_IN_CHUNK = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Prepared:
    """key: digest of all that decides the token trees. content: digest of the token trees themselves, which another
    version of the code may well make alike. data: digest of the content of every source by its name."""

    train: Store
    validation: Store | None
    report: DataReport
    directory: Path
    key: str
    content: str
    data: Mapping[str, str]


def prepare(
    sources: Sequence[SourceSpec],
    render: RenderSettings,
    *,
    validation: int | float,
    seed: int,
    cache: Path,
    workers: int | None = None,
    progress: Progress = lambda done, total, label: None,
) -> Prepared:
    """The token trees of all sources, from the cache if they are there, otherwise made and put there.

    validation: a number of records or a share that is held back; see ``split.held_back``. workers: processes; 0 for none,
    None for one a core. Strict: one bad record stops everything, and nothing is kept.
    Raises DataError (with the first 20 places), MissingInputError (nothing there, nothing left), RecipeError, StorageError.
    """
    names = [spec.name for spec in sources]
    if len(set(names)) < len(names):
        raise RecipeError(f"two data sources have the same name ({', '.join(names)})", advice="give each its own")
    readers = tuple(_reader_settings(spec) for spec in sources)
    open_readers(readers)  # faults of the recipe show before anything is read
    renderer = load_renderer(render)
    work = Work(render, renderer.tokenizer.fingerprint, readers)
    opened = [open_source(spec) for spec in sources]
    data = {source.spec.name: source.digest for source in opened}
    key = cache_key(work, data)
    directory = cache / key[:32]
    with exclusive(directory):
        index = read_index(directory / "store", key)
        if index is None:
            remove_unfinished(directory)
            faults = Faults()
            parts = render_all(work, renderer, _chunks(opened, faults, progress), _processes(workers))
            _make(work, parts, faults, key, directory / "store")
            index = read_index(directory / "store", key)
            assert index is not None, directory
    everything = open_store(directory / "store", index)
    evaluated = held_back(everything.keys, validation, seed)
    train = everything.part(~evaluated)
    held = everything.part(evaluated) if evaluated.any() else None
    counts = {name: Tally.of(content) for name, content in index["report"]["sources"].items()}
    report = DataReport(counts, index["report"]["duplicates"], _side(train), None if held is None else _side(held))
    return Prepared(train, held, report, directory, key, fingerprint(index["files"]), data)


def cache_key(work: Work, data: Mapping[str, str]) -> str:
    """Digest of all that decides the token trees: data, readers, tokenizer, format, limits, and the code that does it."""
    settings = asdict(work.render)
    del settings["tokenizer"], settings["revision"]  # where it was found does not matter, what it is does
    return fingerprint(
        {
            "data": list(data.items()),
            "readers": [asdict(reader) for reader in work.readers],
            "render": settings,
            "tokenizer": work.fingerprint,
            "library": tokenizers.__version__,
            "code": _code_digest(),
        }
    )


def _code_digest() -> str:
    """Digest of the code of reading and rendering, so that nobody has to remember to raise a number when it changes."""
    files = sorted(file for folder in ("text", "data") for file in (PACKAGE / folder).glob("*.py"))
    return fingerprint([(file.name, sha256(file)) for file in files])


def _reader_settings(spec: SourceSpec) -> ReaderSettings:
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in spec.options.items()}
    return ReaderSettings(spec.name, spec.reader, tuple(sorted(spec.fields.items())), tuple(sorted(options.items())))


def _side(store: Store) -> Side:
    return Side(len(store), int(store.threads.sum()), int(store.tokens.sum()), int(store.targets.sum()))


def _processes(workers: int | None) -> int:
    """One a core by default, up to the number that one process can feed with rows."""
    if workers is not None:
        return workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MOST_PROCESSES)


def _make(work: Work, parts: Iterator[Rendered], faults: Faults, key: str, directory: Path) -> None:
    """Fill the store. faults: what the reading finds. Raises DataError or MissingInputError; nothing is left behind then."""
    names = [reader.source for reader in work.readers]
    counts = {name: Tally() for name in names}
    with new_directory(directory) as temporary, writing(temporary) as writer:
        for part in parts:
            for source, tally in part.tallies.items():
                counts[names[source]].add(tally)
            faults.add(part.faults)
            if not faults:
                writer.append(part.chunk)
        faults.check()
        _check_counts(counts, work.render)
        sources = {name: tally.as_json() for name, tally in counts.items()}
        writer.finish(key, names, {"sources": sources, "duplicates": writer.duplicates()})


def _chunks(opened: Sequence[Opened], faults: Faults, progress: Progress) -> Iterator[list[SourceRow]]:
    """The rows of all sources in order, some at a time; what is not even a row becomes a fault."""
    number = 0
    for index, source in enumerate(opened):
        size = sum(file.size for file in source.files)
        first, chunk, start = number, list[SourceRow](), 0.0
        for entry in _entries(source):
            number += 1
            if isinstance(entry, DataError):
                faults.add([Fault(number, entry.what, entry.where, entry.advice)])
                continue
            chunk.append(SourceRow(number, index, entry.place, entry.value))
            if len(chunk) == ROWS_IN_CHUNK or (entry.share - start) * size > BYTES_IN_CHUNK:
                progress(int(entry.share * PARTS), PARTS, f"{source.spec.name}: {number - first:,} records")
                yield chunk
                chunk, start = [], entry.share
        if chunk:
            yield chunk
        if number == first:
            raise MissingInputError("holds no records", where=source.spec.path, advice="check what was exported")
        progress(PARTS, PARTS, f"{source.spec.name}: {number - first:,} records")


def _entries(source: Opened) -> Iterator[Row | GroupedRows | DataError]:
    """The rows of a source, put together if its reader wants that."""
    column = group_column(source.spec.reader, source.spec.fields)
    return _single(source) if column is None else grouped(_single(source), column)


def _single(source: Opened) -> Iterator[Row | DataError]:
    """The rows of a source; a fault that ends the reading is the last of them."""
    try:
        yield from entries(source)
    except DataError as error:
        yield error


def _check_counts(counts: Mapping[str, Tally], render: RenderSettings) -> None:
    """Nothing was lost on the way, and something is left. Raises MissingInputError."""
    for tally in counts.values():
        tally.check()
    if any(tally.used for tally in counts.values()):
        return
    rejected = sum((tally.rejected for tally in counts.values()), Counter[str]())
    advice = "look at the options of the sources"
    if rejected[REASONS["too_long"]] == max(rejected.values()):
        advice = f"raise text.max_length ({render.max_length:,}), or set text.truncation ({render.truncation}) to right"
    what = f"none of {sum(tally.records for tally in counts.values()):,} records is left ({reasons(rejected)})"
    raise MissingInputError(what, advice=advice)
