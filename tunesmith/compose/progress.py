"""Progress of the work before the first step: a bar in a terminal, a line every few seconds where output is piped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from tunesmith.data.dataset.building import Progress as ProgressCallback

PAUSE = 5.0
"""Seconds between two lines where there is no terminal."""


@contextmanager
def show_progress(title: str, *, shown: bool = True) -> Iterator[ProgressCallback]:
    """A callback (done, total, label) that displays its calls while the block lasts, or does nothing."""
    if not shown:
        yield lambda done, total, label: None
        return
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield _line_callback(console, title)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[label]}"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=None, label="")
        yield lambda done, total, label: bar.update(task, completed=done, total=total, label=label)


def _line_callback(console: Console, title: str, clock: Callable[[], float] = time.monotonic) -> ProgressCallback:
    printed = clock()
    first: tuple[float, int] | None = None

    def print_line(done: int, total: int | None, label: str) -> None:
        nonlocal printed, first
        now = clock()
        first = first or (now, done)
        if now - printed >= PAUSE:
            printed = now
            share = f"{done / total:.0%} " if total else ""
            left = _time_left(now - first[0], done - first[1], total - done) if total else ""
            console.print(f"{title}: {share}{label}{left}", markup=False, soft_wrap=True)

    return print_line


def _time_left(seconds: float, done: int, missing: int) -> str:
    """How long the rest will take at the same pace, for the end of a line; empty where nothing is known."""
    if done <= 0 or missing <= 0:
        return ""
    left = seconds * missing / done
    return f", {left:.0f} s left" if left < 100 else f", {left / 60:.0f} min left"
