"""Checkpoints on disk, each of which is complete or does not exist.

    checkpoints/step-000030/
        model.safetensors, optimizer.safetensors, ...   the groups of tensors; of a sharded model several files each
        state.json                                      lengths of the record files and other values that are no tensors
        MANIFEST.json                                   step, and size and SHA-256 of every file; written last

A directory gets its name only when every byte in it is on the disk. It counts as a checkpoint only if its files agree
with its manifest. A damaged one is renamed, with a notice, and the next older one is used.

Every process writes its part of a sharded model (``shards``). The first process does everything else, after all files
are on the disk. Functions with a ``communicator`` are called by all processes together and return or raise the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from tunesmith.errors import StorageError
from tunesmith.files import UNFINISHED, flush_to_disk, new_directory, storage_errors
from tunesmith.train.run.agreement import in_all, in_first
from tunesmith.train.run.checkpoint_files import (
    FORMAT,
    MANIFEST,
    SHARDED_FORMAT,
    STATE,
    Checkpoint,
    ListedCheckpoint,
    find_candidate,
    manifest_text,
    unreadable,
    verify,
)
from tunesmith.train.run.shards import INDEX, SUFFIX, GroupIndex, file_name, is_divided, own_parts
from tunesmith.train.tensors import TYPES, size_in_bytes, tied_names, write_tensors
from tunesmith.world import ALONE, Communicator

DAMAGED = "damaged-"
NAME = re.compile(r"step-([0-9]+)(?:-([0-9]+))?")
"""The name of a checkpoint: its step, and its attempt if that is not the first."""

Notice = Callable[[str], None]
"""Prints a warning for the user."""


def save(
    directory: Path,
    step: int,
    groups: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
    facts: Mapping[str, Any] | None = None,
    communicator: Communicator = ALONE,
) -> Path:
    """Write the checkpoint of ``step`` and return its path. When it returns, the checkpoint survives a power cut.

    An existing directory is never changed: saving a step again writes ``step-000030-2``, which counts as the newer one.

    directory: of all checkpoints.
    groups: file name without suffix -> name -> tensor. A tensor with several names is stored once.
    state, facts: JSON values; every number is finite. Those of the first process are written.
    Raises StorageError if there is too little space (before anything is written) or writing fails. Older checkpoints
    are not changed.
    """
    assert all(re.fullmatch(r"[a-z0-9_]+", group) for group in groups), "group names become file names"
    text = json.dumps(state, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    tied = in_first(communicator, lambda: {name: found for name, each in groups.items() if (found := tied_names(each))})
    stored = {
        group: {name: tensor for name, tensor in tensors.items() if name not in tied.get(group, {})}
        for group, tensors in groups.items()
    }
    size = sum(size_in_bytes(each) for each in stored.values()) + len(text)
    in_first(communicator, lambda: check_free_space(directory, size, f"the checkpoint of step {step}"))
    name, attempt = in_first(communicator, lambda: _free_name(directory, step))
    divided = {group for group, tensors in stored.items() if communicator.size > 1 and is_divided(tensors)}
    with _directory_of_all(directory / name, communicator) as temporary:
        written = in_all(communicator, lambda: _write_parts(temporary, stored, divided, communicator))
        about = {
            "format": SHARDED_FORMAT if divided else FORMAT,
            "step": step,
            "attempt": attempt,
            "facts": dict(facts or {}),
            "tied": tied,
        }
        texts = {f"{group}{INDEX}": _index(group, stored[group], written).text() for group in sorted(divided)}
        in_first(communicator, lambda: _complete(temporary, written, {**texts, STATE: text}, about))
    return directory / name


@contextmanager
def _directory_of_all(path: Path, communicator: Communicator) -> Iterator[Path]:
    """As ``new_directory``; the first process makes the directory, and renames it when all have left the block."""
    with ExitStack() as stack:
        yield Path(in_first(communicator, lambda: str(stack.enter_context(new_directory(path)))))
        in_first(communicator, stack.pop_all().close)


def _write_parts(
    temporary: Path, stored: Mapping[str, Mapping[str, Tensor]], divided: Collection[str], communicator: Communicator
) -> dict[str, Any]:
    """Write the files of this process and flush them; file -> its SHA-256 and, of a divided group, its layout."""
    found: dict[str, Any] = {}
    with storage_errors(temporary):
        for group, tensors in stored.items():
            parts, layout = own_parts(tensors, is_first=communicator.is_first)
            if not (parts if group in divided else communicator.is_first):
                continue
            rank, size = communicator.rank, communicator.size
            name = file_name(group, rank, size) if group in divided else f"{group}{SUFFIX}"
            found[name] = {"sha256": write_tensors(temporary / name, parts), "layout": layout}
            flush_to_disk(temporary / name)
    return found


def _index(group: str, tensors: Mapping[str, Tensor], written: list[dict[str, Any]]) -> GroupIndex:
    """What the files of a divided group hold. written: what ``_write_parts`` returned in every process."""
    known = {name: (TYPES[tensor.dtype], tuple(tensor.shape)) for name, tensor in tensors.items()}
    files = {name: each["layout"] for part in written for name, each in part.items() if name.startswith(f"{group}-")}
    return GroupIndex(known, files)


def _complete(
    temporary: Path, written: list[dict[str, Any]], texts: Mapping[str, bytes], about: Mapping[str, Any]
) -> None:
    """Write the files that are no tensors, and the manifest after all others are on the disk."""
    digests = {name: each["sha256"] for part in written for name, each in part.items()}
    for name, text in texts.items():
        # The digests are those of the bytes that were meant, not of what a faulty disk gives back.
        (temporary / name).write_bytes(text)
        digests[name] = hashlib.sha256(text).hexdigest()
    listed = {name: {"size": (temporary / name).stat().st_size, "sha256": digest} for name, digest in digests.items()}
    for name in listed:
        flush_to_disk(temporary / name)
    (temporary / MANIFEST).write_text(manifest_text({**about, "files": listed}), encoding="utf-8")


def check_free_space(directory: Path, size: int, what: str) -> None:
    """Raises StorageError if ``size`` bytes, and a little for headers and directories, do not fit on the disk.

    what: is to be saved, in the message.
    """
    with storage_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        available = shutil.disk_usage(directory).free
    needed = size + (1 << 17)
    if needed > available:
        raise StorageError(
            f"too little disk space for {what}: {needed:,} bytes needed, {available:,} available",
            where=directory,
            advice="free space, keep fewer checkpoints or choose another run.directory; older ones are unchanged",
        )


def _free_name(directory: Path, step: int) -> tuple[str, int]:
    attempt = 1
    while os.path.lexists(directory / (name := f"step-{step:06d}" + (f"-{attempt}" if attempt > 1 else ""))):
        attempt += 1
    return name, attempt


def read(path: Path) -> Checkpoint:
    """Read one checkpoint and verify every byte. Nothing is changed. Raises StorageError that names the damage."""
    found = verify(path, ALONE)
    if isinstance(found, str):
        raise StorageError(f"this checkpoint is damaged: {found}", where=path, advice="use another one")
    return found


def newest(directory: Path, notice: Notice, communicator: Communicator = ALONE) -> Checkpoint | None:
    """The undamaged checkpoint with the highest step; None if there is none. The run must be locked.

    Damaged ones above it are renamed to ``damaged-...`` and reported.

    Raises StorageError for a checkpoint of a newer version, or without permission to read it.
    """
    return _first_undamaged(directory, notice, communicator, lambda _: True)


def of_step(directory: Path, step: int, notice: Notice, communicator: Communicator = ALONE) -> Checkpoint | None:
    """The undamaged checkpoint of one step, its latest attempt; None if there is none. Otherwise like ``newest``."""
    return _first_undamaged(directory, notice, communicator, lambda candidate: candidate.step == step)


def _first_undamaged(
    directory: Path, notice: Notice, communicator: Communicator, wanted: Callable[[ListedCheckpoint], bool]
) -> Checkpoint | None:
    for candidate in filter(wanted, _candidates(directory, notice, communicator)):
        found = _verify_or_rename(candidate.path, notice, communicator)
        if found is not None:
            return found
    return None


def rotate(
    directory: Path, keep: int, pinned: Collection[int], notice: Notice, communicator: Communicator = ALONE
) -> list[int]:
    """Delete all but the ``keep`` newest checkpoints and those of the ``pinned`` steps; returns the deleted steps.

    Before any is deleted, the newest two (the newest, if ``keep`` is 1) are read and verified, so at least as many
    valid ones always exist. The order is that of the steps in the manifests; names and times do not matter.
    """
    assert keep >= 1, "at least the newest checkpoint is kept"
    kept = 0
    surplus: list[ListedCheckpoint] = []
    for candidate in _candidates(directory, notice, communicator):
        if kept >= keep:
            surplus.append(candidate)
        elif kept >= 2 or _verify_or_rename(candidate.path, notice, communicator) is not None:
            kept += 1
    deleted = [each for each in surplus if each.step not in pinned]
    in_first(communicator, lambda: _delete([each.path for each in reversed(deleted)]))
    return [each.step for each in deleted]


def has_surplus(
    directory: Path, keep: int, pinned: Collection[int], notice: Notice, communicator: Communicator = ALONE
) -> bool:
    """Whether ``rotate`` with the same arguments would delete a checkpoint. Only manifests are read.

    It is so after a kill between a save and its rotation.
    """
    return any(each.step not in pinned for each in _candidates(directory, notice, communicator)[keep:])


def _candidates(directory: Path, notice: Notice, communicator: Communicator) -> list[ListedCheckpoint]:
    """All checkpoints with a valid manifest and files of the right sizes, newest first; the others are renamed."""

    def find() -> list[tuple[str, int, int]]:
        found: list[tuple[str, int, int]] = []
        for path in checkpoint_paths(directory):
            checked = find_candidate(path)
            if isinstance(checked, ListedCheckpoint):
                found.append((path.name, checked.step, checked.attempt))
            else:
                _rename_damaged(path, checked, notice)
        return sorted(found, key=lambda each: each[1:], reverse=True)

    return [ListedCheckpoint(directory / name, step, attempt) for name, step, attempt in in_first(communicator, find)]


def _verify_or_rename(path: Path, notice: Notice, communicator: Communicator) -> Checkpoint | None:
    """The checkpoint, or None if it is damaged, after it was renamed."""
    found = verify(path, communicator)
    if isinstance(found, Checkpoint):
        return found
    in_first(communicator, lambda: _rename_damaged(path, found, notice))
    return None


def checkpoint_paths(directory: Path) -> list[Path]:
    """The directories of all checkpoints, valid or not. Raises StorageError without permission to read."""
    try:
        return sorted(path for path in directory.iterdir() if path.name.startswith("step-"))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise unreadable(directory, error) from error


def latest_attempts(directory: Path) -> dict[int, Path]:
    """Step -> the directory of its latest attempt, valid or not. Raises as ``checkpoint_paths``."""
    found: dict[int, tuple[int, Path]] = {}
    for path in checkpoint_paths(directory):
        if (match := NAME.fullmatch(path.name)) is not None:
            step, attempt = int(match.group(1)), int(match.group(2) or 1)
            found[step] = max(found.get(step, (0, path)), (attempt, path))
    return {step: path for step, (_, path) in found.items()}


def _rename_damaged(path: Path, reason: str, notice: Notice) -> None:
    number, target = 1, path.with_name(DAMAGED + path.name)
    while os.path.lexists(target):
        number += 1
        target = path.with_name(f"{DAMAGED}{path.name}-{number}")
    with storage_errors(path):
        os.rename(path, target)
        flush_to_disk(path.parent)
    notice(f"checkpoint {path.name} is damaged and will not be used: {reason}; it was renamed to {target}")


def _delete(paths: Iterable[Path]) -> None:
    """Rename each directory first, then delete its files: a kill in between leaves no incomplete checkpoint."""
    for path in paths:
        with storage_errors(path, advice="an older checkpoint could not be removed; all newer ones are complete"):
            hidden = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=path.parent))
            os.rename(path, hidden / path.name)
            flush_to_disk(path.parent)
            shutil.rmtree(hidden)
