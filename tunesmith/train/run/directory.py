"""The directory of a run: one writer at a time, one recipe, and a record of what it was made with.

runs/NAME/
    recipe.yaml     the resolved recipe, enough to repeat the run
    manifest.json   versions, hashes, seeds, hardware
    metrics.jsonl   consumed.jsonl   timing.jsonl
    checkpoints/    export/          lock
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import yaml

from tunesmith.errors import LockedError, MissingInputError, RecipeError
from tunesmith.files import UNFINISHED, flush_to_disk, remove_unfinished, storage_errors, write_file, write_json

Resume = Literal["auto", "always", "never"]
Notice = Callable[[str], None]

LOCK = "lock"
RECIPE = "recipe.yaml"
MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """An open run, owned by this process until ``close``.

    path: absolute. continued: whether a run was there already. lock: descriptor of the lock file.
    recipe_text: what ``record`` writes to recipe.yaml.
    """

    path: Path
    continued: bool
    lock: int
    recipe_text: str

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def export(self) -> Path:
        return self.path / "export"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def consumed(self) -> Path:
        return self.path / "consumed.jsonl"

    @property
    def timing(self) -> Path:
        return self.path / "timing.jsonl"

    @classmethod
    def open(
        cls,
        path: Path,
        recipe_text: str,
        *,
        notice: Notice,
        resume: Resume = "auto",
        may_differ: Collection[str] = (),
    ) -> RunDirectory:
        """Create a run or continue the one that is there, and own it. Nothing is touched before the lock is held.

        A new run leaves nothing but its lock here until ``record``: what fails before that (data, model) can be mended and
        started again. recipe_text: YAML, compared by content. may_differ: keys (``run``, ``train.log_every``) in which the
        recipe of a continued run may have changed; ``record`` then renews its ``recipe.yaml``. resume: ``always`` wants a run to be
        there, ``never`` wants none. Raises LockedError, RecipeError (another recipe, or a directory that is no run),
        MissingInputError, StorageError.
        """
        path = path.absolute()
        if resume == "always" and not (path / RECIPE).is_file():
            raise MissingInputError("there is no run to continue", where=path, advice="check run.directory")
        _create(path)
        lock = _take_lock(path / LOCK, notice)
        try:
            continued = (path / RECIPE).is_file()
            if continued and resume == "never":
                raise RecipeError("a run is here already", where=path, advice="choose another run.directory")
            if not continued:
                _refuse_other_content(path)
            for place in (path, path / "checkpoints"):
                remove_unfinished(place)
            if continued:
                _compare_recipe(path / RECIPE, recipe_text, may_differ, notice)
        except BaseException:
            _give_lock_back(lock)
            raise
        return cls(path, continued, lock, recipe_text)

    def record(self, manifest: Mapping[str, Any], notice: Notice, may_differ: Collection[str] = ("hardware",)) -> None:
        """Write ``recipe.yaml`` and ``manifest.json``: from here on it is a run. In a continued one, refuse what was not made with the same things.

        may_differ: keys that may have changed, with a notice. Raises RecipeError listing the others, StorageError.
        """
        path, new = self.path / MANIFEST, json.loads(json.dumps(manifest))
        old = _parsed(path, json.loads) if path.is_file() else new
        changed, allowed = _changes(old, new, may_differ)
        if changed:
            raise RecipeError(
                "the run was begun with other things than it would be continued with:" + _listed(changed),
                where=path,
                advice="put them back, or begin anew in another run.directory",
            )
        for key, change in allowed.items():
            notice(f"changed since the run was begun: {key}: {change}")
        recipe = self.path / RECIPE
        if not recipe.is_file() or _parsed(recipe, yaml.safe_load) != yaml.safe_load(self.recipe_text):
            write_file(recipe, self.recipe_text)
        if allowed or not path.is_file():
            write_json(path, new)
        _create(self.checkpoints)

    def close(self) -> None:
        """Give the lock back; safe to call once."""
        _give_lock_back(self.lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _create(path: Path) -> None:
    """Make a directory and its parents so that a power cut does not take them away again."""
    with storage_errors(path, advice="choose another run.directory"):
        absent = [each for each in (path, *path.parents) if not each.exists()]
        path.mkdir(parents=True, exist_ok=True)
        for each in absent:
            flush_to_disk(each.parent)


def _take_lock(path: Path, notice: Notice) -> int:
    """Lock the file for this process and write into it who we are. The kernel frees it when the process ends."""
    with storage_errors(path, advice="choose a run.directory on a file system that can be written and locked"):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(descriptor)
            os.close(descriptor)
            raise LockedError(
                f"another process writes to this run: {holder or 'it has not said which'}",
                where=path.parent,
                advice="wait until it has ended, or choose another run.directory",
            ) from None
        except OSError:
            os.close(descriptor)
            raise
        if left := _holder(descriptor):
            notice(f"took over the lock of {left}, which ended without giving it back")
        us = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
            "boot": _boot(),
        }
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, (json.dumps(us) + "\n").encode(), 0)
    return descriptor


def _boot() -> str | None:
    """Tells two boots of one machine apart, where the system says so."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text(encoding="ascii").strip() if path.is_file() else None


def _holder(descriptor: int) -> str | None:
    try:
        content = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {int(content['pid'])} on {content['host']} since {content['since']}"
    except (ValueError, KeyError, TypeError):
        return None  # empty, or just being written


def _give_lock_back(descriptor: int) -> None:
    os.ftruncate(descriptor, 0)
    os.close(descriptor)


def _refuse_other_content(path: Path) -> None:
    """A directory with files but without a recipe belongs to somebody else."""
    others = sorted(item.name for item in path.iterdir() if item.name != LOCK and not item.name.startswith(UNFINISHED))
    if others:
        raise RecipeError(
            f"the directory is not empty and holds no run (it has {others[0]!r})",
            where=path,
            advice="choose another run.directory",
        )


def _compare_recipe(path: Path, text: str, may_differ: Collection[str], notice: Notice) -> None:
    changed, allowed = _changes(_parsed(path, yaml.safe_load), yaml.safe_load(text), may_differ)
    if changed:
        raise RecipeError(
            "a run with another recipe is here:" + _listed(changed),
            where=path,
            advice="continue it with its own recipe, or choose another run.directory for this one",
        )
    for key, change in allowed.items():
        notice(f"changed since the run was begun: {key}: {change}")


def _parsed(path: Path, parse: Callable[[str], Any]) -> dict[str, Any]:
    try:
        content = parse(path.read_text(encoding="utf-8"))
    except (ValueError, yaml.YAMLError) as error:
        raise RecipeError(
            f"not readable: {error}", where=path, advice="put it back, or begin anew elsewhere"
        ) from error
    if not isinstance(content, dict):
        raise RecipeError("not readable: no mapping", where=path, advice="put it back, or begin anew elsewhere")
    return content


def _changes(old: Any, new: Any, may_differ: Collection[str]) -> tuple[dict[str, str], dict[str, str]]:
    """(what changed against the rules, what changed and may), both as key -> "old -> new"."""
    before, after = dict(_leaves(old)), dict(_leaves(new))
    different = [key for key in {**before, **after} if before.get(key, ABSENT) != after.get(key, ABSENT)]
    shown = {key: f"{_short(before.get(key, ABSENT))} -> {_short(after.get(key, ABSENT))}" for key in different}
    free = {key for key in different if any(key == each or key.startswith(f"{each}.") for each in may_differ)}
    return (
        {key: change for key, change in shown.items() if key not in free},
        {key: change for key, change in shown.items() if key in free},
    )


ABSENT = "(absent)"


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of nested mappings and lists under its dotted key; an empty one is a value itself."""
    if isinstance(value, dict | list) and value:
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(child, f"{path}.{key}" if path else str(key))
    else:
        yield path, value


def _short(value: Any) -> str:
    text = value if value is ABSENT else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _listed(changes: Mapping[str, str], most: int = 10) -> str:
    lines = [f"\n  {key}: {change}" for key, change in changes.items()]
    return "".join(lines[:most]) + (f"\n  and {len(lines) - most} more" if len(lines) > most else "") + "\n "
