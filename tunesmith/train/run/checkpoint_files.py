"""Reads checkpoints, and finds damage to them: what is in a directory, and whether it is what was written."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from torch import Tensor

from tunesmith.errors import StorageError
from tunesmith.files import fingerprint, sha256
from tunesmith.model.local_rows import local_part, local_rows
from tunesmith.train.run.agreement import in_all, in_first
from tunesmith.train.run.shards import INDEX, SUFFIX, GroupIndex, GroupReader, find_index_fault, open_group, parse_index
from tunesmith.train.tensors import check_same_tensors
from tunesmith.world import Communicator

FORMAT = 1
"""Every group is one file."""

SHARDED_FORMAT = 2
"""Groups may be several files with an index."""

MANIFEST = "MANIFEST.json"
STATE = "state.json"


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
    indexes: group -> what its files hold, if it has several.
    """

    path: Path
    step: int
    attempt: int
    state: Mapping[str, Any]
    facts: Mapping[str, Any]
    groups: tuple[str, ...]
    tied: Mapping[str, Mapping[str, str]]
    indexes: Mapping[str, GroupIndex] = field(default_factory=dict)

    def load(self, group: str, *, ending: str = "") -> dict[str, Tensor]:
        """Name -> whole tensor of one group, on the CPU; tied names share one tensor.

        ending: only names that end so are loaded.
        Raises StorageError for an unknown group.
        """
        with self.open(group) as reader:
            names = [name for name in reader.names() if name.endswith(ending)]
            stored = {name: reader.read(name) for name in dict.fromkeys(map(reader.first_name, names))}
            return {name: stored[reader.first_name(name)] for name in names}

    def load_into(self, group: str, tensors: Mapping[str, Tensor], what: str) -> None:
        """Copy a group into the tensors of the same names; of sharded ones only the rows of this process are read.

        what: the group in words, for the message.
        Raises StorageError, before anything is copied, for an unknown group, or if names, shapes or types differ.
        """
        with self.open(group) as reader:
            check_same_tensors(reader.describe(), tensors, what)
            with torch.no_grad():
                for name, target in tensors.items():
                    reader.copy_rows(name, local_rows(target), local_part(target))

    @contextmanager
    def open(self, group: str) -> Iterator[GroupReader]:
        """The tensors of a group, to be read one by one. Raises StorageError for an unknown group."""
        if group not in self.groups:
            raise StorageError(
                f"no tensors {group!r} in this checkpoint, only {', '.join(self.groups)}",
                where=self.path,
                advice="resume with the recipe that wrote it",
            )
        with open_group(self.path, group, self.indexes.get(group), self.tied.get(group, {})) as reader:
            yield reader


class ListedCheckpoint(NamedTuple):
    """A directory with a valid manifest, whose files have the right sizes."""

    path: Path
    step: int
    attempt: int


class _DamageError(Exception):
    """A checkpoint is not what was written; the message is the reason."""


def verify(path: Path, communicator: Communicator) -> Checkpoint | str:
    """The checkpoint at ``path``, or a description of its damage. Every byte is read, each file by one process."""
    if reason := in_first(communicator, lambda: _find_damage(path, lambda: _check_listed(path))):
        return reason
    manifest = _read_manifest(path / MANIFEST)
    by_size = sorted(manifest["files"], key=lambda name: -manifest["files"][name]["size"])
    share = by_size[communicator.rank :: communicator.size]
    reasons = in_all(communicator, lambda: _find_damage(path, lambda: _check_digests(path, manifest, share)))
    reasons.append(in_first(communicator, lambda: _find_damage(path, lambda: _check_form(path, manifest))))
    return next((reason for reason in reasons if reason is not None), None) or _open(path, manifest)


def find_candidate(path: Path) -> ListedCheckpoint | str:
    """As ``verify``, but files are not read, only their sizes are compared."""
    if reason := _find_damage(path, lambda: _check_listed(path)):
        return reason
    manifest = _read_manifest(path / MANIFEST)
    return ListedCheckpoint(path, manifest["step"], manifest["attempt"])


def list_files(path: Path) -> Mapping[str, tuple[int, str]]:
    """Name -> (bytes, SHA-256) of every file of a checkpoint, by its manifest; the files are not read.

    Raises StorageError if the manifest is damaged.
    """
    try:
        files = _read_manifest(path / MANIFEST)["files"]
    except _DamageError as error:
        raise StorageError(str(error), where=path, advice="use another checkpoint") from None
    except OSError as error:
        raise unreadable(path, error) from error
    return {name: (entry["size"], entry["sha256"]) for name, entry in files.items()}


def unreadable(path: Path, error: OSError) -> StorageError:
    advice = "check the disk and the permissions; nothing was changed"
    return StorageError(f"cannot read checkpoints: {error.strerror}", where=error.filename or path, advice=advice)


def _find_damage(path: Path, check: Callable[[], object]) -> str | None:
    """Why a check finds damage; None if it does not. Raises StorageError if files may not be read."""
    try:
        check()
    except _DamageError as error:
        return str(error)
    except OSError as error:
        if error.errno in (errno.EIO, errno.ENOTDIR, errno.ELOOP):
            return f"{Path(error.filename or path).name} cannot be read ({error.strerror})"
        raise unreadable(path, error) from error
    return None


def _check_listed(path: Path) -> None:
    """The manifest is valid, and exactly its files are there and have their sizes."""
    if path.is_symlink() or not path.is_dir():
        raise _DamageError("it is not a directory")
    with os.scandir(path) as entries:
        present = {
            entry.name: entry.stat().st_size if entry.is_file(follow_symlinks=False) else -1 for entry in entries
        }
    if present.get(MANIFEST, -1) < 0:
        raise _DamageError(f"{MANIFEST} is missing")
    files = _read_manifest(path / MANIFEST)["files"]
    if stray := sorted(files.keys() ^ (present.keys() - {MANIFEST})):
        raise _DamageError(f"{stray[0]} {'is missing' if stray[0] in files else 'does not belong to it'}")
    for name, expected in files.items():
        if present[name] != expected["size"]:
            size = "is not a plain file" if present[name] < 0 else f"has {present[name]} bytes, not {expected['size']}"
            raise _DamageError(f"{name} {size}")


def _check_digests(path: Path, manifest: Mapping[str, Any], names: Collection[str]) -> None:
    for name in names:
        if sha256(path / name) != manifest["files"][name]["sha256"]:
            raise _DamageError(f"the content of {name} has changed (SHA-256 differs)")


def _check_form(path: Path, manifest: Mapping[str, Any]) -> None:
    """State and indexes can be read, and the indexes agree with the files."""
    found = _open(path, manifest)
    tensors = {f"{group}{SUFFIX}" for group in found.groups if group not in found.indexes}
    tensors |= {file for index in found.indexes.values() for file in index.files}
    if stray := sorted(tensors ^ {name for name in manifest["files"] if name.endswith(SUFFIX)}):
        raise _DamageError(f"{stray[0]} and its index do not belong together")
    for index in found.indexes.values():
        if (fault := find_index_fault(path, index)) is not None:
            raise _DamageError(fault)
    for group in found.groups:
        try:
            with open_group(path, group, found.indexes.get(group), found.tied.get(group, {})) as reader:
                if not reader.ties_exist():
                    raise _DamageError(f"tied names of {group} are wrong in {MANIFEST}")
        except SafetensorError:
            raise _DamageError(f"a file of {group} is not a safetensors file") from None


def _open(path: Path, manifest: Mapping[str, Any]) -> Checkpoint:
    try:
        state = json.loads((path / STATE).read_bytes())
    except ValueError:  # an earlier version hashed what the disk gave back
        raise _DamageError(f"{STATE} is not readable") from None
    indexes: dict[str, GroupIndex] = {}
    for name in manifest["files"]:
        if name.endswith(INDEX):
            if (index := parse_index((path / name).read_bytes())) is None:
                raise _DamageError(f"{name} is not readable")
            indexes[name.removesuffix(INDEX)] = index
    single = [name.removesuffix(SUFFIX) for name in manifest["files"] if name.endswith(SUFFIX) and "-of-" not in name]
    return Checkpoint(
        path,
        manifest["step"],
        manifest["attempt"],
        state,
        manifest["facts"],
        (*single, *indexes),
        manifest["tied"],
        indexes,
    )


def manifest_text(content: Mapping[str, Any]) -> str:
    """The text of a manifest with its digest; no other text is valid, since reading compares every character."""
    return json.dumps({**content, "sha256": fingerprint(content)}, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _read_manifest(path: Path) -> dict[str, Any]:
    text = path.read_bytes()
    try:
        content = json.loads(text)
        digest = content.pop("sha256")
    except (ValueError, TypeError, KeyError, AttributeError):
        raise _DamageError(f"{MANIFEST} is not readable") from None
    if digest != fingerprint(content) or text != manifest_text(content).encode():
        raise _DamageError(f"the content of {MANIFEST} has changed (SHA-256 differs)")
    if content.get("format") not in (FORMAT, SHARDED_FORMAT):
        raise StorageError(
            f"this checkpoint has format {content.get('format')}, this version reads formats {FORMAT} and "
            f"{SHARDED_FORMAT}",
            where=path.parent,
            advice="continue the run with the version that wrote it",
        )
    if not _is_manifest(content):
        raise _DamageError(f"{MANIFEST} is not a manifest")
    return dict(content)


def _is_manifest(content: Mapping[str, Any]) -> bool:
    """Whether a manifest with a valid digest has the form that ``save`` gives it."""
    try:
        numbers = [content["step"], content["attempt"], *(each["size"] for each in content["files"].values())]
        texts = [each["sha256"] for each in content["files"].values()]
        texts += [first for names in content["tied"].values() for first in names.values()]
        return (
            all(type(each) is int and each >= 0 for each in numbers)
            and all(isinstance(each, str) for each in texts)
            and isinstance(content["facts"], dict)
            and STATE in content["files"]
            and not any("/" in name for name in content["files"])
        )
    except (KeyError, TypeError, AttributeError):
        return False
