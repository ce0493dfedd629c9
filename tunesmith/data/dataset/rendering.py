"""Rows to packed token trees: the work that is done in chunks, here or in worker processes."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import chain, islice
from multiprocessing import get_context
from typing import Any, Literal, NamedTuple

from tunesmith.data.dataset.duplicates import signatures
from tunesmith.data.dataset.faults import Fault, one_line
from tunesmith.data.dataset.report import SourceCounts
from tunesmith.data.dataset.similarity import Signature
from tunesmith.data.dataset.split import content_key
from tunesmith.data.dataset.store import Chunk, count_targets, pack
from tunesmith.data.readers.filters import NO_FILTERS, Filters, filtered
from tunesmith.data.readers.reader import Group, Outcome, Pruned, Rejected
from tunesmith.data.readers.registry import open_reader
from tunesmith.errors import DataError, InternalError, RecipeError
from tunesmith.text.formats.registry import build_format
from tunesmith.text.targets import Targets
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.crop import CropSettings, count_crops
from tunesmith.text.tokens.prompts import NO_USER, Prompts, make_prompt_tree, reserve_reply_tokens
from tunesmith.text.tokens.ranking import drop_incomparable_replies
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.text.tokens.truncate import DroppedTree, Policy, truncate, truncate_input_and_replies
from tunesmith.text.tree import Tree

ROWS_IN_CHUNK = 256
SMALL = 32  # chunks; so many are done before processes are started for the rest
THREADS = 2  # one prepares or packs a chunk while the tokenizer, which uses all cores, is at work on another
REASONS = {
    "too_long": "longer than the limit",
    "no_target": "nothing to train on",
    "not_ranked": "no two replies to compare",
}

Settings = tuple[tuple[str, Any], ...]  # the items of a mapping, in an order of their own; hashable


@dataclass(frozen=True, slots=True)
class RenderSettings:
    """What decides the tokens of a tree, as plain values that a worker process can be given.

    tokenizer: a directory or a hub name. options: of the format. max_length: of a thread, in tokens.
    targets: which messages are trained on. max_target_length: of a reply, in tokens; ``max_length`` is that of an input then,
    as for encoder-decoders. None: one limit for the whole thread. reserved: tokens of ``max_length``
    that every prompt must leave for its reply; 0 where trees are not prompts.
    """

    tokenizer: str
    format: str
    max_length: int
    truncation: Policy = "drop"
    options: Settings = ()
    revision: str | None = None
    targets: Targets = "assistant"
    max_target_length: int | None = None
    reserved: int = 0


@dataclass(frozen=True, slots=True)
class ReaderSettings:
    """The source's name, its reader, the settings of that reader, what filters its messages, and whether they become
    prompts."""

    source: str
    reader: str
    fields: Settings
    options: Settings
    filters: Filters = NO_FILTERS
    prompts: Prompts | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """All that a process needs to know to turn the rows of every source into token trees.

    fingerprint: of the tokenizer with the format's tokens, as it was when the work began. signed: whether records get
    signatures, to find near duplicates.
    """

    render: RenderSettings
    fingerprint: str
    readers: tuple[ReaderSettings, ...]
    signed: bool = False


class SourceRow(NamedTuple):
    """One row to be read, or several that belong together. number: counts all rows of all sources. source: its number in
    ``Work.readers``."""

    number: int
    source: int
    place: str
    value: Mapping[str, Any] | Group


class Record(NamedTuple):
    """What is known of a record that can be used. key: its ``content_key``. signature: if signed. trained, context: its
    tokens as they were counted."""

    source: int
    key: bytes
    signature: Signature | None
    trained: int
    context: int


class Fitted(NamedTuple):
    """A token tree within the length limit. tokens, targets: that are laid out for it. context: tokens that are only read."""

    tree: TokenTree
    tokens: int
    targets: int
    context: int


@dataclass(frozen=True, slots=True)
class Rendered:
    """What came of a chunk of rows: token trees with what is known of each, in the order of the rows, counts by source,
    and faults."""

    chunk: Chunk
    records: tuple[Record, ...]
    tallies: Mapping[int, SourceCounts]
    faults: tuple[Fault, ...]


def load_renderer(settings: RenderSettings) -> Renderer:
    """The renderer of these settings, read from disk. Raises RecipeError, MissingInputError, DataError."""
    format = build_format(settings.format, dict(settings.options))
    tokenizer = Tokenizer.load(settings.tokenizer, format.controls, settings.revision)
    renderer = Renderer(format, tokenizer, settings.targets)
    if renderer.opening >= settings.max_length:
        what = f"{settings.max_length} tokens leave no room behind the {renderer.opening} that stand before every text"
        raise RecipeError(what, where="text.max_length", advice="raise it, or shorten the prefix in text.options")
    return renderer


@lru_cache(maxsize=1)
def _worker_renderer(settings: RenderSettings, fingerprint: str) -> Renderer:
    """The same, once in every worker process. Raises DataError if the tokenizer is no longer what it was."""
    renderer = load_renderer(settings)
    if renderer.tokenizer.fingerprint != fingerprint:
        raise DataError(
            "the tokenizer changed while data were prepared", where=settings.tokenizer, advice="start again"
        )
    return renderer


@lru_cache(maxsize=2)
def open_readers(readers: tuple[ReaderSettings, ...]) -> tuple[Callable[[Any], Outcome], ...]:
    """The reader of every source. Raises RecipeError."""
    return tuple(
        open_reader(item.reader, dict(item.fields), dict(item.options), where=f"data source {item.source}")
        for item in readers
    )


def render_rows(work: Work, renderer: Renderer, rows: Sequence[SourceRow | Fault]) -> Rendered:
    """Read, render and truncate one chunk of rows. What is wrong with a row becomes a fault and stops nothing."""
    tallies = {source: SourceCounts() for source in sorted({row.source for row in rows})}
    faults: list[Fault] = []
    read: list[tuple[SourceRow, Tree]] = []
    for row in rows:
        tallies[row.source].records += 1
        if isinstance(row, Fault):
            faults.append(row)
            continue
        try:
            tree = _read(work, tallies[row.source], row)
        except DataError as error:
            faults.append(_fault(row, error))
            continue
        read += [(row, tree)] if tree is not None else []
    kept: list[Fitted] = []
    records: list[Record] = []
    for (row, tree), tokens in zip(read, renderer.render_many([tree for _, tree in read]), strict=True):
        try:
            fitted = _fit(work.render, tallies[row.source], tree, tokens, renderer.opening)
        except DataError as error:
            faults.append(_fault(row, error))
            continue
        if fitted is not None:
            kept.append(fitted)
            signature = signatures(tree) if work.signed else None
            records.append(Record(row.source, content_key(tree), signature, fitted.targets, fitted.context))
    for fault in faults:
        tallies[fault.source].bad += 1
    sizes = [(fitted.tokens, fitted.targets) for fitted in kept]
    chunk = pack([one.tree for one in kept], [one.source for one in records], [one.key for one in records], sizes)
    return Rendered(chunk, tuple(records), tallies, tuple(sorted(faults, key=lambda fault: fault.number)))


def _fault(row: SourceRow, error: DataError) -> Fault:
    """What is wrong with a row, in words that are fit for a terminal whatever the row holds."""
    value = list(row.value.rows) if isinstance(row.value, Group) else row.value
    advice = one_line(error.advice or "mend or remove the record")
    return Fault(row.number, row.source, one_line(error.what), error.where or row.place, advice, value)


def _read(work: Work, tally: SourceCounts, row: SourceRow) -> Tree | None:
    """The tree of a row, or None if a filter turned it away. Raises DataError."""
    reader = work.readers[row.source]
    outcome = filtered(open_readers(work.readers)[row.source](row.value), reader.filters)
    if isinstance(outcome, Rejected):
        tally.rejected[one_line(outcome.reason, 60)] += 1
        return None
    if isinstance(outcome, Pruned):
        tally.dropped.update(outcome.dropped)
        outcome = outcome.tree
    if reader.prompts is not None:
        asked = make_prompt_tree(outcome, reader.prompts)
        if asked is None:
            tally.rejected[NO_USER] += 1
            return None
        outcome = asked
    return replace(outcome, place=row.place, source=reader.source)


def _fit(
    settings: RenderSettings, tally: SourceCounts, tree: Tree, rendered: TokenTree | DataError, opening: int
) -> Fitted | None:
    """The token tree within the length limit, or None if nothing to train on is left. Raises DataError."""
    if isinstance(rendered, DataError):
        raise rendered
    fitted = _truncated(settings, rendered, tree.place, opening)
    tally.tokens += len(rendered.ids)
    if isinstance(fitted, DroppedTree):
        tally.rejected[REASONS[fitted.reason]] += 1
        tally.cut += len(rendered.ids)
        return None
    tokens, targets = _size(settings, fitted, opening)
    found = Fitted(fitted, tokens, targets, len(rendered.ids) - fitted.cut - targets)
    tally.used += 1
    tally.trained, tally.context = tally.trained + targets, tally.context + found.context
    tally.cut += fitted.cut
    return found


def _truncated(settings: RenderSettings, tree: TokenTree, place: str, opening: int) -> TokenTree | DroppedTree:
    if settings.targets == "ranked" and not len(tree.replies):
        return DroppedTree("not_ranked")
    found = _cut(settings, tree, place, opening)
    if isinstance(found, DroppedTree) or settings.targets != "ranked":
        return found
    return drop_incomparable_replies(found) or DroppedTree("not_ranked")


def _cut(settings: RenderSettings, tree: TokenTree, place: str, opening: int) -> TokenTree | DroppedTree:
    if settings.reserved:
        assert settings.truncation in ("drop", "error"), "refused before"
        long: Literal["drop", "error"] = "error" if settings.truncation == "error" else "drop"
        return reserve_reply_tokens(tree, settings.max_length, settings.reserved, long, place)
    if settings.max_target_length is None:
        return truncate(tree, settings.max_length, settings.truncation, place, opening)
    policy = settings.truncation
    assert policy != "left", "refused with the recipe"
    assert policy != "window", "refused with the recipe"
    return truncate_input_and_replies(tree, settings.max_length, settings.max_target_length, policy, place)


def _size(settings: RenderSettings, tree: TokenTree, opening: int) -> tuple[int, int]:
    """Tokens and targets that are laid out for a tree that was truncated."""
    if settings.truncation == "left" or settings.truncation == "window":
        found = count_crops(tree, CropSettings(settings.truncation, settings.max_length, opening))
        return found.tokens, found.targets
    return len(tree.ids), count_targets(tree)


def render_all(
    work: Work, renderer: Renderer, chunks: Iterator[Sequence[SourceRow | Fault]], workers: int
) -> Iterator[Rendered]:
    """Render every chunk, in order: the first of them, or with fewer than two workers all, in threads.

    The rest in processes of their own. At most two chunks wait for each of them, so that memory does not grow with the
    data. Raises InternalError if a process dies.
    """
    here = chunks if workers < 2 else islice(chunks, SMALL)
    with ThreadPoolExecutor(THREADS) as threads:
        yield from _in_order(threads, partial(render_rows, work, renderer), here, THREADS)
    following = next(chunks, None)
    if following is None:
        return
    try:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_use_one_thread) as pool:
            rest = chain([following], chunks)
            yield from _in_order(pool, partial(_render_in_worker, work), rest, 2 * workers)
    except BrokenProcessPool as error:
        advice = "it was killed, perhaps for want of memory; set data.workers to 0 or a smaller number"
        raise InternalError("a process that prepares data died", advice=advice) from error


def _in_order(
    pool: Executor,
    render: Callable[[Sequence[SourceRow | Fault]], Rendered],
    chunks: Iterable[Sequence[SourceRow | Fault]],
    most: int,
) -> Iterator[Rendered]:
    """What comes of every chunk, in order. most: chunks that wait or are worked on at a time."""
    waiting: deque[Future[Rendered]] = deque()
    try:
        for rows in chunks:
            if len(waiting) >= most:
                yield waiting.popleft().result()
            waiting.append(pool.submit(render, rows))
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _render_in_worker(work: Work, rows: Sequence[SourceRow | Fault]) -> Rendered:
    return render_rows(work, _worker_renderer(work.render, work.fingerprint), rows)


def _use_one_thread() -> None:
    """In a worker process: every one of them uses one core."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
