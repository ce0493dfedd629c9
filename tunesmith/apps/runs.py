"""`tunesmith runs`: lists the runs in a directory, and writes the page of a run again."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from tunesmith.apps.run_selection import select_runs
from tunesmith.errors import MissingInputError, TunesmithError, UsageError
from tunesmith.text.visible import visible
from tunesmith.train.run.directory import MANIFEST, METRICS, RECIPE
from tunesmith.train.run.history import RunHistory
from tunesmith.train.run.recorded_recipe import RecordedRecipe
from tunesmith.train.run.status import find_status
from tunesmith.train.run.validation import ALL

HEADERS = ("run", "method", "model", "state", "step", "best", "changed", "size")
RIGHT = ("step", "changed", "size")
"""Columns that are aligned to the right."""
SHORTENED = ("run", "model", "best")
"""Columns whose texts are shortened where the table is too wide, the widest first."""
WIDTH = 80
"""The least width of a terminal for which the table is made."""
LEAST_WIDTH = 8
"""To which they are shortened at most."""
DEPTH = 2
"""Levels of directories below the given one that are searched for runs."""


@dataclass(frozen=True, slots=True)
class ListedRun:
    """A run as it is listed.

    path: of its directory.
    method, model: what was trained, and from what.
    state: training, finished, stopped, failed, or broken: its recipe cannot be read.
    step, steps: optimizer steps that are done, and of the whole run; 0 if they are not known.
    best: step of the chosen checkpoint; 0 if there is none.
    metric, value: by which it was chosen; value is None if there is none or it is not finite.
    loss: on the validation data at that step, or at the last evaluation; None if there is none or it is not finite.
    updated: time of the last change, in ISO 8601.
    bytes: of all its files.
    reason: why it stopped, failed, or is broken.
    """

    path: str
    method: str
    model: str
    state: str
    step: int
    steps: int
    best: int
    metric: str
    value: float | None
    loss: float | None
    updated: str
    bytes: int
    reason: str


ORDERS: Mapping[str, Callable[[ListedRun], tuple[Any, ...]]] = {
    "time": lambda run: (),
    "name": lambda run: (run.path,),
    "method": lambda run: (run.method,),
    "model": lambda run: (run.model,),
    "state": lambda run: (run.state,),
    "step": lambda run: (-run.step,),
    "loss": lambda run: (run.loss is None, run.loss),
    "size": lambda run: (-run.bytes,),
}
"""What runs are sorted by; equal ones, as all by ``time``, have the newest first. Those without a loss come last."""


def run(
    directory: Path,
    *,
    order: str = "time",
    method: str | None = None,
    values: Sequence[tuple[str, str]] = (),
    as_json: bool = False,
    target: TextIO | None = None,
) -> None:
    """Print the runs in a directory.

    order: what they are sorted by, a key of ``ORDERS``.
    method, values: which are listed; see ``find_chosen``.
    as_json: as a JSON list.
    target: standard output by default.
    Raises MissingInputError if there is no such directory, UsageError.
    """
    if order not in ORDERS:
        raise UsageError(f"{order!r} is no order", where="--sort", advice=f"give one of: {', '.join(ORDERS)}")
    screen = target or sys.stdout
    chosen = find_chosen(directory, method, values)
    newest_first = sorted((list_run(path) for path in chosen), key=lambda each: each.updated, reverse=True)
    found = sorted(newest_first, key=ORDERS[order])
    if as_json:
        print(json.dumps([asdict(each) for each in found], indent=2, allow_nan=False), file=screen)
    elif not found:
        such = "" if method is None and not values else " with this method and these values"
        print(visible(f"there are no runs{such} in {directory}"), file=screen)
    else:
        width = max(WIDTH, shutil.get_terminal_size().columns) if screen.isatty() else None
        for line in table_lines(found, directory, width):
            print(visible(line), file=screen)


def find_chosen(directory: Path, method: str | None = None, values: Sequence[tuple[str, str]] = ()) -> Sequence[Path]:
    """The runs in a directory with a method and with some values in their recipes; see ``select_runs``.

    Raises MissingInputError if there is no such directory, UsageError for a method or key that no run has.
    """
    if not directory.is_dir():
        raise MissingInputError("there is no such directory", where=directory, advice="name the directory of your runs")
    paths = list(find_runs(directory))
    return select_runs(paths, method, values) if paths and (method is not None or values) else paths


def find_runs(directory: Path, depth: int = DEPTH) -> Iterator[Path]:
    """The directories of runs: the given one, or those below it. Links are not followed below it."""
    if (directory / RECIPE).is_file() and any((directory / name).is_file() for name in (MANIFEST, METRICS)):
        yield directory
        return
    if depth == 0:
        return
    try:
        below = sorted(entry.path for entry in os.scandir(directory) if entry.is_dir(follow_symlinks=False))
    except OSError:
        return
    for path in below:
        yield from find_runs(Path(path), depth - 1)


def list_run(path: Path) -> ListedRun:
    """What is known about a run. A file that cannot be read is no error: the run is listed as broken."""
    size, newest = _measure(path)
    try:
        recipe = RecordedRecipe.read(path)
        status = find_status(path)
        history = RunHistory.of(path, recipe.rule())
        history.update()
    except TunesmithError as error:
        return ListedRun(str(path), "", "", "broken", 0, 0, 0, "", None, None, newest, size, error.what)
    best = history.selection.best
    metric = history.selection.rule.metrics[0].name
    value = history.selection.evaluated[best][0] if best else None
    return ListedRun(
        path=str(path),
        method=recipe.method,
        model=recipe.model,
        state=status.state,
        step=status.step or int(history.last.get("step", 0)),
        steps=status.steps,
        best=best,
        metric=metric,
        value=value if value is not None and math.isfinite(value) else None,
        loss=_loss(history, best),
        updated=status.updated or newest,
        bytes=size,
        reason=status.reason,
    )


def _loss(history: RunHistory, step: int) -> float | None:
    """The loss on the validation data after a step; 0: after the last evaluation."""
    evaluations = [each for each in history.evaluations if step in (0, each.step)]
    loss = evaluations[-1].metrics.get(ALL, {}).get("loss") if evaluations else None
    return loss if loss is not None and math.isfinite(loss) else None


def _measure(path: Path) -> tuple[int, str]:
    """(bytes of all files below a directory, time of the newest change)."""
    size, newest = 0, 0.0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                found = os.lstat(os.path.join(folder, name))  # noqa: PTH118
            except OSError:
                continue  # a run that trains removes files
            size, newest = size + found.st_size, max(newest, found.st_mtime)
    return size, datetime.fromtimestamp(newest, UTC).isoformat(timespec="seconds")


def table_lines(runs: Sequence[ListedRun], directory: Path, width: int | None) -> Iterator[str]:
    """The table, and why runs stopped.

    width: characters of a line at most, as far as shorter texts allow it; None, as for a pipe: nothing is shortened.
    """
    now = datetime.now(UTC)
    rows = [HEADERS, *(_cells(each, directory, now) for each in runs)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    places = [HEADERS.index(name) for name in SHORTENED]
    limit = math.inf if width is None else width - 2 * (len(widths) - 1)
    while sum(widths) > limit and max(widths[place] for place in places) > LEAST_WIDTH:
        widths[max(places, key=lambda place: widths[place])] -= 1
    for row in rows:
        cells = [_shortened(cell, width) for cell, width in zip(row, widths, strict=True)]
        yield "  ".join(
            cell.rjust(width) if name in RIGHT else cell.ljust(width)
            for name, cell, width in zip(HEADERS, cells, widths, strict=True)
        ).rstrip()
    for each in runs:
        if each.reason:
            yield f"{_name(each, directory)}: {' '.join(each.reason.split())}"


def _cells(run: ListedRun, directory: Path, now: datetime) -> tuple[str, ...]:
    step = f"{run.step}/{run.steps}" if run.steps else str(run.step)
    best = "" if run.value is None else f"{run.metric.removeprefix('validation/')} {run.value:.4g}"
    cells = (_name(run, directory), run.method, run.model, run.state, step, best)
    return (*(" ".join(cell.split()) for cell in cells), _age(run.updated, now), _size(run.bytes))


def _age(time: str, now: datetime) -> str:
    """``5 min`` ago; empty for a text that is no time."""
    try:
        seconds = (now - datetime.fromisoformat(time)).total_seconds()
    except (ValueError, TypeError):
        return ""
    for length, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"


def _name(run: ListedRun, directory: Path) -> str:
    path = Path(run.path)
    return str(path.relative_to(directory)) if path != directory else path.resolve().name


def _shortened(text: str, width: int) -> str:
    """The text with its middle omitted where it is too long."""
    if len(text) <= width:
        return text
    end = (width - 1) // 2
    return f"{text[: width - 1 - end]}…{text[len(text) - end :]}"


def _size(count: int) -> str:
    """1234567 -> ``1.2 MB``."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= unit:
            return f"{count / unit:.{0 if count >= 10 * unit else 1}f} {name}"
    return f"{count} B"
