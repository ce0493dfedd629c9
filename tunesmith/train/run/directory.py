"""The directory of a run: one process at a time writes to it, for one recipe, data and software.

runs/NAME/
    recipe.yaml      the resolved recipe, enough to repeat the run
    manifest.json    versions, hashes, seeds, hardware; every start, and hashes of what came out
    metrics.jsonl    the metrics of every step and evaluation
    consumed.jsonl   the examples of every step
    timing.jsonl     wall-clock times
    shown.jsonl      prompts and replies that were shown after evaluations
    status.json      how far the run is
    index.html       all of this as a page
    checkpoints/     export/     lock
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Literal, Self

from tunesmith.errors import LockedError, MissingInputError, RecipeError, StorageError
from tunesmith.files import (
    READING,
    UNFINISHED,
    flush_to_disk,
    read_small,
    remove_unfinished,
    storage_errors,
    write_file,
    write_json,
)
from tunesmith.model.names import EXPORT, RUN_MANIFEST
from tunesmith.recipe.problems import InvalidRecipeError
from tunesmith.recipe.reading import read_mapping, to_plain
from tunesmith.train.run.journal import JOURNAL, SEAL
from tunesmith.train.run.lock import LOCK, read_holder, write_holder
from tunesmith.train.run.value_changes import concerns, find_changes, list_changes

Resume = Literal["auto", "always", "never"]
Notice = Callable[[str], None]

RECIPE = "recipe.yaml"
MANIFEST = RUN_MANIFEST
METRICS = "metrics.jsonl"
CONSUMED = "consumed.jsonl"
TIMING = "timing.jsonl"
SHOWN = "shown.jsonl"
STATUS = "status.json"
PAGE = "index.html"

CHANGED = "changed since the last start of the run: {key}: {change}"
LOST = "{name} of this run is missing, so data, models and software are not compared with those of its start"
CHECKPOINTS = "checkpoints"


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """An open run, locked by this process until ``close``, or by the first of the processes that train together.

    path: absolute.
    continued: whether the run existed already.
    lock: file descriptor of the lock file; None in a process that does not own the run and writes nothing.
    recipe_text: content of recipe.yaml, which ``record`` writes.
    previous: the plain values of recipe.yaml before that, which are those of the last start; empty for a new run.
    """

    path: Path
    continued: bool
    lock: int | None
    recipe_text: str
    previous: Mapping[str, Any]

    @property
    def is_owner(self) -> bool:
        """Whether this process writes the files of the run."""
        return self.lock is not None

    @property
    def checkpoints(self) -> Path:
        return self.path / CHECKPOINTS

    @property
    def export(self) -> Path:
        return self.path / EXPORT

    @property
    def metrics(self) -> Path:
        return self.path / METRICS

    @property
    def consumed(self) -> Path:
        return self.path / CONSUMED

    @property
    def timing(self) -> Path:
        return self.path / TIMING

    @property
    def shown(self) -> Path:
        return self.path / SHOWN

    @classmethod
    def open(
        cls,
        path: Path,
        recipe_text: str,
        *,
        notice: Notice,
        resume: Resume = "auto",
        may_differ: Collection[str] = (),
        earlier: Mapping[str, Any] = MappingProxyType({}),
        exchangeable: Mapping[str, Collection[Any]] = MappingProxyType({}),
    ) -> RunDirectory:
        """Create a run, or continue an existing one, and lock it. Nothing is changed before the lock is held.

        A new run consists of its lock only until ``record``, so the recipe may still change after a failure before that
        (in data or model).

        recipe_text: YAML, compared by content.
        notice: prints a line for the user.
        resume: ``always`` requires an existing run, ``never`` requires that there is none.
        may_differ: keys (``run``, ``train.log_every``) in which the recipe of a continued run may differ; ``record``
            then rewrites ``recipe.yaml``.
        earlier: key that recipes of earlier versions do not have -> its value in these versions.
        exchangeable: key -> values of it that may replace each other, which counts as ``may_differ``.
        Raises LockedError, RecipeError (another recipe, or a directory that is no run), MissingInputError,
        StorageError.
        """
        path = path.absolute()
        if resume == "always" and not (path / RECIPE).is_file():
            raise MissingInputError("there is no run to continue", where=path, advice="check run.directory")
        lock = _acquire_lock(path, notice)
        try:
            with storage_errors(path, "choose another run.directory, or check the permissions of its files"):
                compare = partial(_check_recipe, may_differ=may_differ, earlier=earlier, exchangeable=exchangeable)
                return cls._open_locked(path, lock, recipe_text, notice, resume, compare)
        except BaseException:
            _release_lock(lock, path)
            raise

    @classmethod
    def _open_locked(
        cls,
        path: Path,
        lock: int,
        recipe_text: str,
        notice: Notice,
        resume: Resume,
        compare: Callable[[Path, str, Notice], dict[str, Any]],
    ) -> RunDirectory:
        """As ``open``, with the descriptor of the lock that is held. Raises OSError too.

        compare: finds the recipe of the last start, and refuses another one.
        """
        continued, previous = (path / RECIPE).is_file(), dict[str, Any]()
        if continued and resume == "never":
            raise RecipeError("a run exists here already", where=path, advice=f"append {free_directory(path)}")
        if not continued:
            _check_empty(path)
        for directory in (path, *path.glob("*/"), *path.glob("*/*/")):
            if not directory.is_symlink():
                remove_unfinished(directory)
        if continued:
            previous = compare(path / RECIPE, recipe_text, notice)
        return cls(path, continued, lock, recipe_text, previous)

    @classmethod
    def join(cls, path: Path, recipe_text: str) -> RunDirectory:
        """The run that the first process of several has opened. Arguments as of ``open``."""
        return cls(path.absolute(), (path / RECIPE).is_file(), None, recipe_text, {})

    def record(
        self,
        manifest: Mapping[str, Any],
        notice: Notice,
        may_differ: Collection[str] = ("hardware",),
        remedies: Mapping[str, str] = MappingProxyType({}),
        before_writing: Callable[[], None] = lambda: None,
    ) -> None:
        """Write ``recipe.yaml`` and ``manifest.json``, which make the directory a run; a continued run compares them.

        The journal in ``manifest.json`` is kept as it is.

        may_differ: keys of the manifest that may differ, which is printed.
        remedies: key of the manifest -> further advice where it differs.
        before_writing: may raise an error that refuses this start; nothing is changed then.
        Raises RecipeError with all other keys that differ, StorageError.
        """
        path, new = self.path / MANIFEST, json.loads(json.dumps(manifest))
        recorded = _read_mapping(path, json.loads) if path.is_file() else new
        old = {key: value for key, value in recorded.items() if key not in (*JOURNAL, SEAL)}
        changed, allowed = find_changes(old, new, may_differ)
        if changed:
            raise RecipeError(
                "the run was started with other data, models or software",
                where=path,
                advice=f"restore them, or append {free_directory(self.path)} for a new run"
                + "".join(f"; {text}" for key, text in remedies.items() if concerns(key, changed))
                + ":"
                + list_changes(changed),
            )
        before_writing()
        if not path.is_file() and any(self.checkpoints.glob("step-*")):
            notice(LOST.format(name=MANIFEST))
        for key, change in allowed.items():
            notice(CHANGED.format(key=key, change=change))
        recipe = self.path / RECIPE
        if not recipe.is_file() or _read_mapping(recipe, _parse_recipe) != _parse_recipe(self.recipe_text.encode()):
            write_file(recipe, self.recipe_text)
        if allowed or not path.is_file():
            write_json(path, {**new, **{key: recorded[key] for key in JOURNAL if key in recorded}})
        _create(self.checkpoints)

    def close(self) -> None:
        """Release the lock. It must be called once. The lock file of a run that never began is removed."""
        if self.lock is not None:
            _release_lock(self.lock, self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _create(path: Path) -> None:
    """Make a directory and its parents, and flush them to the disk so that they survive a power cut."""
    with storage_errors(path, advice="choose another run.directory"):
        absent = [each for each in (path, *path.parents) if not each.exists()]
        path.mkdir(parents=True, exist_ok=True)
        for each in absent:
            flush_to_disk(each.parent)


def _acquire_lock(directory: Path, notice: Notice) -> int:
    """Make the directory, lock its lock file and write this process into it; returns the descriptor of the file.

    The kernel releases the lock when the process ends. Another process may remove the file of a run that never began
    between its opening and its locking; then a new file is made.
    """
    while True:
        _create(directory)
        descriptor = _lock_file(directory / LOCK, notice)
        if _is_open_file(directory / LOCK, descriptor):
            return descriptor
        os.close(descriptor)


def _is_open_file(path: Path, descriptor: int) -> bool:
    """Whether the path still names the file that is open."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _lock_file(path: Path, notice: Notice) -> int:
    advice = "choose a run.directory on a file system that can be written and locked"
    with storage_errors(path, advice, action="lock"):
        # A link is not followed: on a shared machine it may be somebody else's, and name any file.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            _lock_descriptor(descriptor, path)
            if (left := read_holder(descriptor)) and (path.parent / RECIPE).is_file():
                notice(f"the run was killed before: {left} ended without saving")
            write_holder(descriptor)
        except BaseException:
            with suppress(OSError):
                os.close(descriptor)
            raise
    return descriptor


def _lock_descriptor(descriptor: int, path: Path) -> None:
    """Lock an open lock file. Raises LockedError with the process that has the lock, OSError."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise LockedError(
            f"another process writes to this run: {read_holder(descriptor) or 'its number is not known'}",
            where=path.parent,
            advice=f"wait until it has ended, or append {free_directory(path.parent)}",
        ) from None


def _release_lock(descriptor: int, directory: Path) -> None:
    """Release the lock. The file is removed where no run began, so that it looks like none.

    Nothing of value is written here, and the kernel releases the lock in any case. So an error of the disk is no error
    of the run, and does not take the place of one.
    """
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
    with suppress(OSError):
        if not (directory / RECIPE).is_file():
            (directory / LOCK).unlink()
    with suppress(OSError):
        os.close(descriptor)


def _check_empty(path: Path) -> None:
    """Raises RecipeError for a directory with other files, which is no run, and StorageError if it was one."""
    if (path / MANIFEST).is_file():  # it is written after the recipe
        advice = f"restore it, or append {free_directory(path)}"
        raise StorageError(f"{RECIPE} of this run is missing", where=path, advice=advice)
    others = sorted(item.name for item in path.iterdir() if item.name != LOCK and not item.name.startswith(UNFINISHED))
    if others:
        raise RecipeError(
            f"the directory is not empty and is no run (it contains {others[0]!r})",
            where=path,
            advice=f"append {free_directory(path)}",
        )


def free_directory(path: Path) -> str:
    """The single value of a recipe for a new run: the path of a run with the first number that is not in use."""
    number = next(number for number in count(2) if not path.with_name(f"{path.name}-{number}").exists())
    free = path.with_name(f"{path.name}-{number}")
    return shlex.quote(f"run.directory={free.relative_to(Path.cwd()) if free.is_relative_to(Path.cwd()) else free}")


def _check_recipe(
    path: Path,
    text: str,
    notice: Notice,
    *,
    may_differ: Collection[str],
    earlier: Mapping[str, Any],
    exchangeable: Mapping[str, Collection[Any]],
) -> dict[str, Any]:
    """The recipe of the last start. Raises RecipeError with the keys that differ from it, except those that may."""
    previous = _read_mapping(path, _parse_recipe)
    changed, allowed = find_changes(previous, _parse_recipe(text.encode()), may_differ, earlier, exchangeable)
    if changed:
        raise RecipeError(
            "a run with another recipe exists here",
            where=path,
            advice=f"continue it with its own recipe, or append {free_directory(path.parent)} for a new run; "
            f"what differs:{list_changes(changed)}",
        )
    for key, change in allowed.items():
        notice(CHANGED.format(key=key, change=change))
    return previous


def _parse_recipe(content: bytes) -> dict[str, Any]:
    """The plain values of a recipe. Raises ValueError with what is wrong."""
    try:
        found: dict[str, Any] = to_plain(read_mapping(content, RECIPE))
    except InvalidRecipeError as error:
        raise ValueError(error.problems[0].message) from error
    return found


def _read_mapping(path: Path, parse: Callable[[bytes], Any]) -> dict[str, Any]:
    advice = "restore the file, or start a new run in another run.directory"
    try:
        with storage_errors(path, READING, action="read"):
            content = parse(read_small(path))
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"not readable: {error}", where=path, advice=advice) from error
    if not isinstance(content, dict):
        raise RecipeError("not readable: no mapping", where=path, advice=advice)
    return content
