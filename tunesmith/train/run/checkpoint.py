"""Checkpoints on disk, each of which is complete or does not exist.

    checkpoints/step-000030/
        model.safetensors, optimizer.safetensors, ...   one file for each group of tensors
        state.json                                      lengths of the record files and other values that are no tensors
        MANIFEST.json                                   step, and size and SHA-256 of every file; written last

A directory gets its name only when every byte in it is on the disk. It counts as a checkpoint only if its files agree
with its manifest. A damaged one is renamed, with a notice, and the next older one is used.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from tunesmith.errors import StorageError
from tunesmith.files import UNFINISHED, fingerprint, flush_to_disk, new_directory, sha256, storage_errors
from tunesmith.train.tensors import size_in_bytes, tied_names, write_tensors

FORMAT = 1
MANIFEST = "MANIFEST.json"
STATE = "state.json"
DAMAGED = "damaged-"
NAME = re.compile(r"step-([0-9]+)(?:-([0-9]+))?")
"""The name of a checkpoint: its step, and its attempt if that is not the first."""

Notice = Callable[[str], None]
"""Prints a warning for the user."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One verified checkpoint.

    path: its directory.
    step: optimizer steps done.
    attempt: 1, or higher if the step was saved again next to an older directory.
    state: content of state.json.
    facts: further values of its manifest.
    groups: names of its groups of tensors.
    tied: group -> further name of a tensor -> its first name.
    """

    path: Path
    step: int
    attempt: int
    state: Mapping[str, Any]
    facts: Mapping[str, Any]
    groups: tuple[str, ...]
    tied: Mapping[str, Mapping[str, str]]

    def load(self, group: str, *, ending: str = "") -> dict[str, Tensor]:
        """Name -> tensor of one group, on the CPU; tied names share one tensor.

        ending: only names that end so are loaded.
        Raises StorageError for an unknown group.
        """
        if group not in self.groups:
            raise StorageError(
                f"no tensors {group!r} in this checkpoint, only {', '.join(self.groups)}",
                where=self.path,
                advice="resume with the recipe that wrote it",
            )
        with safe_open(self.path / f"{group}.safetensors", framework="pt", device="cpu") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys() if name.endswith(ending)}  # noqa: SIM118
        return tensors | {
            name: tensors[first] for name, first in self.tied.get(group, {}).items() if name.endswith(ending)
        }


def save(
    directory: Path,
    step: int,
    groups: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Write the checkpoint of ``step`` and return its path. When it returns, the checkpoint survives a power cut.

    An existing directory is never changed: saving a step again writes ``step-000030-2``, which counts as the newer one.

    directory: of all checkpoints.
    groups: file name without suffix -> name -> tensor. A tensor with several names is stored once.
    state, facts: JSON values; every number is finite.
    Raises StorageError if there is too little space (before anything is written) or writing fails. Older checkpoints
    are not changed.
    """
    assert all(re.fullmatch(r"[a-z0-9_]+", group) for group in groups), "group names become file names"
    text = json.dumps(state, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    tied = {group: found for group, tensors in groups.items() if (found := tied_names(tensors))}
    stored = {
        group: {name: tensor for name, tensor in tensors.items() if name not in tied.get(group, {})}
        for group, tensors in groups.items()
    }
    check_free_space(
        directory, sum(size_in_bytes(each) for each in stored.values()) + len(text), f"the checkpoint of step {step}"
    )
    path, attempt = _free_name(directory, step)
    with new_directory(path) as temporary:
        files = {
            f"{group}.safetensors": write_tensors(temporary / f"{group}.safetensors", tensors)
            for group, tensors in stored.items()
        }
        # The digests are those of the bytes that were meant, not of what a faulty disk gives back.
        (temporary / STATE).write_bytes(text)
        files[STATE] = hashlib.sha256(text).hexdigest()
        listed = {name: {"size": (temporary / name).stat().st_size, "sha256": digest} for name, digest in files.items()}
        about = {"format": FORMAT, "step": step, "attempt": attempt, "facts": dict(facts or {}), "tied": tied}
        for name in listed:
            flush_to_disk(temporary / name)
        (temporary / MANIFEST).write_text(_manifest_text(about | {"files": listed}), encoding="utf-8")
    return path


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


def _free_name(directory: Path, step: int) -> tuple[Path, int]:
    attempt = 1
    while os.path.lexists(path := directory / (f"step-{step:06d}" + (f"-{attempt}" if attempt > 1 else ""))):
        attempt += 1
    return path, attempt


def _manifest_text(content: Mapping[str, Any]) -> str:
    """The text of a manifest with its digest; no other text is valid, since reading compares every character."""
    return json.dumps({**content, "sha256": fingerprint(content)}, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read(path: Path) -> Checkpoint:
    """Read one checkpoint and verify every byte. Nothing is changed. Raises StorageError that names the damage."""
    found = _verify(path, contents=True)
    if isinstance(found, str):
        raise StorageError(f"this checkpoint is damaged: {found}", where=path, advice="use another one")
    return found


def newest(directory: Path, notice: Notice) -> Checkpoint | None:
    """The undamaged checkpoint with the highest step; None if there is none. The run must be locked.

    Damaged ones above it are renamed to ``damaged-...`` and reported.

    Raises StorageError for a checkpoint of a newer version, or without permission to read it.
    """
    for candidate in _candidates(directory, notice):
        found = _verify(candidate.path, contents=True)
        if isinstance(found, Checkpoint):
            return found
        _rename_damaged(candidate.path, found, notice)
    return None


def of_step(directory: Path, step: int, notice: Notice) -> Checkpoint | None:
    """The undamaged checkpoint of one step, its latest attempt; None if there is none. Otherwise like ``newest``."""
    for candidate in _candidates(directory, notice):
        if candidate.step == step:
            found = _verify(candidate.path, contents=True)
            if isinstance(found, Checkpoint):
                return found
            _rename_damaged(candidate.path, found, notice)
    return None


def rotate(directory: Path, keep: int, pinned: Collection[int], notice: Notice) -> list[int]:
    """Delete all but the ``keep`` newest checkpoints and those of the ``pinned`` steps; returns the deleted steps.

    Before any is deleted, the newest two (the newest, if ``keep`` is 1) are read and verified, so at least as many
    valid ones always exist. The order is that of the steps in the manifests; names and times do not matter.
    """
    assert keep >= 1, "at least the newest checkpoint is kept"
    kept: list[Checkpoint] = []
    surplus: list[Checkpoint] = []
    for candidate in _candidates(directory, notice):
        if len(kept) >= keep:
            surplus.append(candidate)
            continue
        found = _verify(candidate.path, contents=True) if len(kept) < 2 else candidate
        if isinstance(found, Checkpoint):
            kept.append(found)
        else:
            _rename_damaged(candidate.path, found, notice)
    deleted = [each for each in surplus if each.step not in pinned]
    for each in reversed(deleted):
        _delete(each.path)
    return [each.step for each in deleted]


def _candidates(directory: Path, notice: Notice) -> list[Checkpoint]:
    """All checkpoints with a valid manifest and files of the right sizes, newest first; the others are renamed."""
    found: list[Checkpoint] = []
    for path in checkpoint_paths(directory):
        checked = _verify(path, contents=False)
        if isinstance(checked, Checkpoint):
            found.append(checked)
        else:
            _rename_damaged(path, checked, notice)
    return sorted(found, key=lambda each: (each.step, each.attempt), reverse=True)


def checkpoint_paths(directory: Path) -> list[Path]:
    """The directories of all checkpoints, valid or not. Raises StorageError without permission to read."""
    try:
        return sorted(path for path in directory.iterdir() if path.name.startswith("step-"))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _unreadable(directory, error) from error


def latest_attempts(directory: Path) -> dict[int, Path]:
    """Step -> the directory of its latest attempt, valid or not. Raises as ``checkpoint_paths``."""
    found: dict[int, tuple[int, Path]] = {}
    for path in checkpoint_paths(directory):
        if (match := NAME.fullmatch(path.name)) is not None:
            step, attempt = int(match.group(1)), int(match.group(2) or 1)
            found[step] = max(found.get(step, (0, path)), (attempt, path))
    return {step: path for step, (_, path) in found.items()}


def _verify(path: Path, *, contents: bool) -> Checkpoint | str:
    """The checkpoint at ``path``, or a description of its damage. contents: hash every file, not only compare sizes."""
    try:
        return _verify_files(path, contents)
    except OSError as error:
        if error.errno in (errno.EIO, errno.ENOTDIR, errno.ELOOP):
            return f"{Path(error.filename or path).name} cannot be read ({error.strerror})"
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> StorageError:
    advice = "check the disk and the permissions; nothing was changed"
    return StorageError(f"cannot read checkpoints: {error.strerror}", where=error.filename or path, advice=advice)


def _verify_files(path: Path, contents: bool) -> Checkpoint | str:
    if path.is_symlink() or not path.is_dir():
        return "it is not a directory"
    with os.scandir(path) as entries:
        present = {
            entry.name: entry.stat().st_size if entry.is_file(follow_symlinks=False) else -1 for entry in entries
        }
    if present.get(MANIFEST, -1) < 0:
        return f"{MANIFEST} is missing"
    manifest = _read_manifest(path / MANIFEST)
    if isinstance(manifest, str):
        return manifest
    files = manifest["files"]
    if stray := sorted(files.keys() ^ (present.keys() - {MANIFEST})):
        return f"{stray[0]} is missing" if stray[0] in files else f"{stray[0]} does not belong to it"
    for name, expected in files.items():
        if present[name] != expected["size"]:
            size = "is not a plain file" if present[name] < 0 else f"has {present[name]} bytes, not {expected['size']}"
            return f"{name} {size}"
        if contents and sha256(path / name) != expected["sha256"]:
            return f"the content of {name} has changed (SHA-256 differs)"
    groups = tuple(name.removesuffix(".safetensors") for name in files if name != STATE)
    try:
        state = json.loads((path / STATE).read_bytes()) if contents else {}
    except ValueError:  # an earlier version hashed what the disk gave back
        return f"{STATE} is not readable"
    return Checkpoint(path, manifest["step"], manifest["attempt"], state, manifest["facts"], groups, manifest["tied"])


def _read_manifest(path: Path) -> dict[str, Any] | str:
    text = path.read_bytes()
    try:
        content = json.loads(text)
        digest = content.pop("sha256")
    except (ValueError, TypeError, KeyError, AttributeError):
        return f"{MANIFEST} is not readable"
    if digest != fingerprint(content) or text != _manifest_text(content).encode():
        return f"the content of {MANIFEST} has changed (SHA-256 differs)"
    if content["format"] != FORMAT:
        raise StorageError(
            f"this checkpoint has format {content['format']}, this version reads format {FORMAT}",
            where=path,
            advice="continue the run with the version that wrote it",
        )
    return dict(content)


def _rename_damaged(path: Path, reason: str, notice: Notice) -> None:
    number, target = 1, path.with_name(DAMAGED + path.name)
    while os.path.lexists(target):
        number += 1
        target = path.with_name(f"{DAMAGED}{path.name}-{number}")
    with storage_errors(path):
        os.rename(path, target)
        flush_to_disk(path.parent)
    notice(f"checkpoint {path.name} is damaged and will not be used: {reason}; it was renamed to {target}")


def _delete(path: Path) -> None:
    """Rename the directory first, then delete its files: a kill in between leaves no incomplete checkpoint."""
    with storage_errors(path, advice="an older checkpoint could not be removed; all newer ones are complete"):
        hidden = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=path.parent))
        os.rename(path, hidden / path.name)
        flush_to_disk(path.parent)
        shutil.rmtree(hidden)
