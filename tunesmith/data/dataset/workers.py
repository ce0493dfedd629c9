"""Rendering chunks of rows in threads, or in worker processes where there are many."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache, partial
from itertools import chain, islice
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait

from tunesmith.data.dataset.rendering import (
    RenderedChunk,
    RenderSettings,
    RowChunk,
    Work,
    load_renderer,
    render_rows,
)
from tunesmith.errors import DataError, InternalError
from tunesmith.text.tokens.render import Renderer

CHUNKS_IN_THREADS = 32  # so many are rendered in this process before worker processes are started for the rest
THREADS = 2  # one reads or packs a chunk while the tokenizer, which uses all cores, encodes another
MOST_PROCESSES = 16

Render = Callable[[RowChunk], RenderedChunk]


def default_processes() -> int:
    """One process for every core, up to the number that one process can supply with rows."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MOST_PROCESSES)


def render_all(work: Work, renderer: Renderer, chunks: Iterator[RowChunk], workers: int) -> Iterator[RenderedChunk]:
    """Render every chunk, in order: the first of them in threads, the others in worker processes.

    At most two chunks wait for each process, so memory does not grow with the data.
    work: what decides the token trees.
    renderer: of this process.
    chunks: of rows.
    workers: processes; with fewer than two, all chunks are rendered in threads.
    Raises InternalError if a process dies.
    """
    here = chunks if workers < 2 else islice(chunks, CHUNKS_IN_THREADS)
    with ThreadPoolExecutor(THREADS) as threads:
        yield from _in_order(threads, threads.submit, partial(render_rows, work, renderer), here, THREADS)
    following = next(chunks, None)
    if following is None:
        return
    try:
        with (
            ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=become_worker) as pool,
            ThreadPoolExecutor(1) as starter,
        ):
            # Submitting starts processes. In another thread no signal interrupts that and leaves half of a process.
            submit = partial(_submit_in_thread, starter, pool)
            yield from _in_order(
                pool, submit, partial(_render_in_worker, work), chain([following], chunks), 2 * workers
            )
    except BrokenProcessPool as error:
        advice = "it was killed, perhaps for lack of memory; set data.workers to 0 or a smaller number"
        raise InternalError("a process that prepares data died", advice=advice) from error


def _submit_in_thread(starter: Executor, pool: Executor, render: Render, chunk: RowChunk) -> Future[RenderedChunk]:
    """As ``pool.submit(render, chunk)``, in a thread of ``starter``."""
    return starter.submit(pool.submit, render, chunk).result()


def _in_order(
    pool: Executor,
    submit: Callable[[Render, RowChunk], Future[RenderedChunk]],
    render: Render,
    chunks: Iterable[RowChunk],
    limit: int,
) -> Iterator[RenderedChunk]:
    """The result of every chunk, in order.

    submit: that of the pool, or what calls it.
    limit: chunks that are in the pool at a time.
    """
    pending: deque[Future[RenderedChunk]] = deque()
    try:
        for chunk in chunks:
            if len(pending) >= limit:
                yield pending.popleft().result()
            pending.append(submit(render, chunk))
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _render_in_worker(work: Work, chunk: RowChunk) -> RenderedChunk:
    return render_rows(work, _worker_renderer(work.render, work.fingerprint), chunk)


@lru_cache(maxsize=1)
def _worker_renderer(settings: RenderSettings, fingerprint: str) -> Renderer:
    """The renderer of a worker process, loaded once. Raises DataError if the tokenizer has changed."""
    renderer = load_renderer(settings)
    if renderer.tokenizer.fingerprint != fingerprint:
        what = "the tokenizer changed while data were prepared"
        raise DataError(what, where=settings.tokenizer, advice="start again")
    return renderer


def become_worker() -> None:
    """In a worker process: let the tokenizer use one core, and end when the process that has started it has ended.

    The signals that a terminal sends to all its processes are for the first one alone. SIGTERM is not ignored, since a
    pool ends its processes with it.
    """
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None, "it was started by another process"
    threading.Thread(target=_end_after, args=(parent.sentinel,), name="parent", daemon=True).start()


def _end_after(sentinel: int) -> None:
    """End this process as soon as the one with the sentinel has ended, however that was killed."""
    wait([sentinel])
    os._exit(1)
