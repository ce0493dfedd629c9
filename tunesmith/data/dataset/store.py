"""Token trees on disk: raw little-endian arrays that are mapped into memory, and an index with their sizes and digests.

A store appears complete under its name or not at all, and is opened only if all its files match the index: every byte
is read and hashed once at each start (1 GB of token ids takes about a second), since one changed id trains other
weights without any error.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from tunesmith.draws import KEY_BYTES
from tunesmith.files import READING, closed, fingerprint, sha256, storage_errors, write_json
from tunesmith.text.tokens.token_tree import TokenTree

INDEX = "index.json"
LOCK_PAUSE = 0.05  # seconds between two attempts at a lock that another process has
LOCK_NOTICE = 2.0  # seconds until the user learns of the wait

Array = npt.NDArray[Any]

PARTS = ("ids", "segments", "spans", "replies", "scores")  # the arrays of a token tree
TREE_COLUMNS = (*PARTS, "threads", "cut", "tokens", "targets", "source")
LAYOUT: dict[str, tuple[str, int]] = {  # name: element type, columns
    "ids": ("<i4", 1),
    "segments": ("<i4", 3),
    "spans": ("<i4", 5),
    "replies": ("<i4", 3),
    "scores": ("<f4", 1),
    "trees": ("<i8", len(TREE_COLUMNS)),  # lengths of the parts, then values
    "keys": ("|u1", KEY_BYTES),
    "groups": ("|u1", KEY_BYTES),
}


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some token trees packed end to end.

    arrays: those of ``LAYOUT``, with that element type and number of columns.
    """

    arrays: Mapping[str, Array]

    @property
    def records(self) -> int:
        """The number of token trees."""
        return len(self.arrays["keys"])

    def subset(self, kept: npt.NDArray[np.bool_]) -> Chunk:
        """Some of the token trees. kept: bool [n]."""
        if kept.all():
            return self
        lengths = self.arrays["trees"][:, : len(PARTS)]
        masks = {name: np.repeat(kept, lengths[:, column]) for column, name in enumerate(PARTS)}
        return Chunk({name: array[masks.get(name, kept)] for name, array in self.arrays.items()})


def pack(
    trees: Sequence[TokenTree],
    sources: Sequence[int],
    keys: Sequence[bytes],
    sizes: Sequence[tuple[int, int]] | None = None,
    groups: Sequence[bytes] | None = None,
) -> Chunk:
    """Token trees as one chunk.

    trees: n token trees.
    sources: n indices of their sources.
    keys: n content keys of 16 bytes.
    sizes: n pairs of tokens and targets that are laid out for each; None where these are all of the tree.
    groups: n keys of 16 bytes, equal for trees that are split together; None where none are.
    """
    sizes = sizes if sizes is not None else [(len(tree.ids), count_targets(tree)) for tree in trees]
    rows = [
        (*(len(getattr(tree, name)) for name in PARTS), tree.threads, tree.cut, *size, source)
        for tree, source, size in zip(trees, sources, sizes, strict=True)
    ]
    parts: dict[str, list[Array]] = {
        **{name: [getattr(tree, name) for tree in trees] for name in PARTS},
        "trees": [np.array(rows, dtype="<i8")],
        "keys": [np.frombuffer(b"".join(keys), dtype="|u1")],
        "groups": [np.frombuffer(b"".join(keys if groups is None else groups), dtype="|u1")],
    }
    return Chunk({name: _joined(parts[name], *LAYOUT[name]) for name in LAYOUT})


def _joined(parts: Sequence[Array], kind: str, columns: int) -> Array:
    flat = [np.asarray(part, dtype=kind).reshape(-1, columns) for part in parts]
    return np.concatenate(flat) if flat else np.zeros((0, columns), dtype=kind)


def count_targets(tree: TokenTree) -> int:
    """The number of target tokens, each counted once."""
    return int((tree.spans[:, 1] - tree.spans[:, 0]).sum())


class StoreWriter:
    """Appends chunks to the files of a store, and writes the index at the end.

    directory: of the store; it must exist.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.files: dict[str, IO[bytes]] = {name: (directory / f"{name}.bin").open("wb") for name in LAYOUT}
        self.digests = {name: hashlib.sha256() for name in LAYOUT}
        self.sizes = dict.fromkeys(LAYOUT, 0)
        self.records = self.targets = 0

    def append(self, chunk: Chunk) -> None:
        """Write the arrays of a chunk at the ends of the files. Raises OSError."""
        for name, file in self.files.items():
            data = np.ascontiguousarray(chunk.arrays[name]).tobytes()
            file.write(data)
            self.digests[name].update(data)
            self.sizes[name] += len(data)
        self.records += chunk.records
        self.targets += int(chunk.arrays["trees"][:, TREE_COLUMNS.index("targets")].sum())

    def close(self) -> None:
        """Close the files. The store is incomplete without its index."""
        for file in self.files.values():
            file.close()

    def finish(self, key: str, sources: Sequence[str], report: Mapping[str, Any]) -> None:
        """Write the index.

        key: the cache key of the data.
        sources: the names of the sources.
        report: JSON that is stored in the index.
        Raises OSError.
        """
        self.close()
        files = {name: {"bytes": self.sizes[name], "sha256": self.digests[name].hexdigest()} for name in LAYOUT}
        index = {"key": key, "records": self.records, "sources": list(sources), "files": files, "report": dict(report)}
        write_json(self.directory / INDEX, {**index, "seal": fingerprint(index)})


def open_writer(directory: Path) -> AbstractContextManager[StoreWriter]:
    """A writer whose files are always closed at the end of the block. Raises StorageError."""
    return closed(StoreWriter(directory), directory)


@contextmanager
def exclusive_lock(directory: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock of a directory, after waiting for any other process that holds it. Raises StorageError.

    directory: created if it does not exist.
    waiting: called once a second after two seconds of waiting, to show why nothing happens.
    """
    path = directory / "lock"
    with storage_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        # A link is not followed: on a shared machine it may be somebody else's, and name any file.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        file = os.fdopen(descriptor, "r+b", buffering=0)
    with closed(file, path):  # the lock is released when the file is closed, also by the end of the process
        waited = 0.0
        while not _locked(file, path):
            time.sleep(LOCK_PAUSE)
            waited += LOCK_PAUSE
            if waited >= LOCK_NOTICE:
                waiting()
                waited = LOCK_NOTICE - 1
        yield


def _locked(file: FileIO, path: Path) -> bool:
    """Try to lock a file for this process; returns whether that succeeded. Raises StorageError."""
    with storage_errors(path, "choose a data.cache on a file system that can be locked", action="lock"):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def read_index(directory: Path, key: str) -> dict[str, Any] | None:
    """The index of a store, or None unless it is intact, has the cache key ``key`` and matches its files.

    Raises StorageError if a file cannot be read.
    """
    with storage_errors(directory, READING, action="read"):
        return _read_index(directory, key)


def _read_index(directory: Path, key: str) -> dict[str, Any] | None:
    path = directory / INDEX
    if not path.is_file():
        return None
    try:
        index = json.loads(path.read_bytes())
        seal = index.pop("seal")
    except (
        ValueError,
        KeyError,
        AttributeError,
        TypeError,
        RecursionError,
    ):  # anything that a damaged file may contain
        return None
    if seal != fingerprint(index) or index.get("key") != key:
        return None
    for name, entry in index["files"].items():
        file = directory / f"{name}.bin"
        if not file.is_file() or file.stat().st_size != entry["bytes"]:
            return None
        if sha256(file) != entry["sha256"]:
            return None
    return dict(index)


class Store:
    """Token trees, mapped into memory read-only; they are read from disk only when they are used.

    arrays: those of ``LAYOUT``, for all N trees in the files.
    ends: int64 [N, 5], where the ``PARTS`` of every tree in the files end; subsets of a store share it.
    sources: the names of the sources.
    rows: int64 [n], which trees of the files belong to this store, in order.

    Attributes, all int64 [n] but ``keys`` and ``groups``:
    tokens: laid out for every tree. Where long threads are cropped when they are laid out, ``tree`` has more tokens.
    targets: its target tokens, each counted once.
    threads: its root-to-leaf paths.
    source: the index of its source in ``sources``.
    cut: its tokens that truncation removed.
    replies: how many of its replies are ranked.
    keys: uint8 [n, 16], the content keys.
    groups: uint8 [n, 16], equal for records that are on one side of the split together.
    """

    def __init__(
        self, arrays: Mapping[str, Array], ends: Array, sources: Sequence[str], rows: npt.NDArray[np.int64]
    ) -> None:
        self._arrays, self._ends, self.sources, self.rows = arrays, ends, tuple(sources), rows
        chosen = np.asarray(arrays["trees"])[rows]
        column = {name: chosen[:, index] for index, name in enumerate(TREE_COLUMNS)}
        self.tokens, self.targets, self.threads = column["tokens"], column["targets"], column["threads"]
        self.source, self.cut, self.replies = column["source"], column["cut"], column["replies"]
        self.keys: npt.NDArray[np.uint8] = np.asarray(arrays["keys"])[rows]
        self.groups: npt.NDArray[np.uint8] = np.asarray(arrays["groups"])[rows]

    def __len__(self) -> int:
        return len(self.rows)

    def tree(self, index: int) -> TokenTree:
        """The token tree of record ``index``; its arrays are read-only views of the files. Raises IndexError."""
        if not 0 <= index < len(self.rows):
            raise IndexError(f"record {index} of {len(self.rows)}")
        ends, lengths = self._ends[self.rows[index]], self._arrays["trees"][self.rows[index], : len(PARTS)]
        ids, segments, spans, replies, scores = (
            self._arrays[name][end - length : end] for name, end, length in zip(PARTS, ends, lengths, strict=True)
        )
        threads, cut = int(self.threads[index]), int(self.cut[index])
        return TokenTree(ids[:, 0], segments, spans, threads, cut, replies, scores[:, 0])

    def key(self, index: int) -> str:
        """The content key of record ``index``, hexadecimal; it does not depend on place or order."""
        return str(self.keys[index].tobytes().hex())

    def highest_id(self) -> int:
        """The largest token id in the files of this store."""
        ids = self._arrays["ids"]
        return int(ids.max()) if len(ids) else -1

    def subset(self, mask: npt.NDArray[np.bool_]) -> Store:
        """Some of the records as a separate store, on the same files. mask: bool [n]."""
        return Store(self._arrays, self._ends, self.sources, self.rows[mask])


def open_store(directory: Path, index: Mapping[str, Any]) -> Store:
    """All records of a store. Raises StorageError.

    directory: of the store.
    index: as ``read_index`` returned it.
    """
    with storage_errors(directory, READING, action="read"):
        arrays = {name: _mapped(directory / f"{name}.bin", *LAYOUT[name]) for name in LAYOUT}
    ends = np.cumsum(np.asarray(arrays["trees"])[:, : len(PARTS)], axis=0)
    return Store(arrays, ends, index["sources"], np.arange(index["records"], dtype=np.int64))


def _mapped(path: Path, kind: str, columns: int) -> Array:
    if path.stat().st_size == 0:  # an empty file cannot be mapped
        return np.zeros((0, columns), dtype=kind)
    return np.memmap(path, dtype=kind, mode="r").reshape(-1, columns)


def overlap(store: Store, other: Store) -> int:
    """The number of records of ``other`` with the same content as one of ``store``."""
    known = {key.tobytes() for key in store.keys}
    return sum(key.tobytes() in known for key in other.keys)
