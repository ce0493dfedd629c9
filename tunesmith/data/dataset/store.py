"""Token trees on disk: raw little-endian arrays that are mapped into memory, and an index that says what belongs there.

A store appears whole under its name or not at all, and is opened only if everything in it is as the index says.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from tunesmith.draws import KEY_BYTES
from tunesmith.files import fingerprint, sha256, storage_errors, write_json
from tunesmith.text.tokens.token_tree import TokenTree

INDEX = "index.json"
HASH_LIMIT = 64 * 2**20  # a store up to this size is hashed whenever it is opened; a larger one is only measured
PAUSE = 0.05  # seconds between two looks at a lock that another process has
PATIENCE = 2.0  # seconds until waiting for it is worth a word

Array = npt.NDArray[Any]

PARTS = ("ids", "segments", "spans", "replies", "scores")  # of a token tree: arrays with a length of their own
TREE_COLUMNS = (*PARTS, "threads", "cut", "tokens", "targets", "source")
LAYOUT: dict[str, tuple[str, int]] = {  # name: element type, columns
    "ids": ("<i4", 1),
    "segments": ("<i4", 3),
    "spans": ("<i4", 5),
    "replies": ("<i4", 3),
    "scores": ("<f4", 1),
    "trees": ("<i8", len(TREE_COLUMNS)),  # lengths of the parts, then values
    "keys": ("|u1", KEY_BYTES),
}


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some token trees packed end to end, in the arrays of ``LAYOUT``; all have that element type and two dimensions."""

    arrays: Mapping[str, Array]

    @property
    def records(self) -> int:
        return len(self.arrays["keys"])

    def part(self, kept: npt.NDArray[np.bool_]) -> Chunk:
        """Only some of the token trees. kept: bool [n]."""
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
) -> Chunk:
    """Token trees, the number of the source of each, and its content key, as one chunk.

    sizes: tokens and targets that are laid out for each, where that is not simply all of them.
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
    }
    return Chunk({name: _joined(parts[name], *LAYOUT[name]) for name in LAYOUT})


def _joined(parts: Sequence[Array], kind: str, columns: int) -> Array:
    flat = [np.asarray(part, dtype=kind).reshape(-1, columns) for part in parts]
    return np.concatenate(flat) if flat else np.zeros((0, columns), dtype=kind)


def count_targets(tree: TokenTree) -> int:
    """Tokens that are trained, each counted once."""
    return int((tree.spans[:, 1] - tree.spans[:, 0]).sum())


class StoreWriter:
    """Appends chunks to the files of a store in a directory, and ends with the index."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.files: dict[str, IO[bytes]] = {name: (directory / f"{name}.bin").open("wb") for name in LAYOUT}
        self.digests = {name: hashlib.sha256() for name in LAYOUT}
        self.records = self.targets = 0

    def append(self, chunk: Chunk) -> None:
        """Write the arrays of a chunk at the ends of the files. Raises OSError."""
        for name, file in self.files.items():
            data = np.ascontiguousarray(chunk.arrays[name]).tobytes()
            file.write(data)
            self.digests[name].update(data)
        self.records += chunk.records
        self.targets += int(chunk.arrays["trees"][:, TREE_COLUMNS.index("targets")].sum())

    def close(self) -> None:
        """Close the files; the store is not complete without its index."""
        for file in self.files.values():
            file.close()

    def finish(self, key: str, sources: Sequence[str], report: Mapping[str, Any]) -> None:
        """Write the index. key: what the store was made from. report: JSON that is kept with it. Raises OSError."""
        sizes = {name: file.tell() for name, file in self.files.items()}
        self.close()
        files = {name: {"bytes": sizes[name], "sha256": self.digests[name].hexdigest()} for name in LAYOUT}
        index = {"key": key, "records": self.records, "sources": list(sources), "files": files, "report": dict(report)}
        write_json(self.directory / INDEX, {**index, "seal": fingerprint(index)})


@contextmanager
def writing(directory: Path) -> Iterator[StoreWriter]:
    """A writer whose files are closed whatever happens."""
    writer = StoreWriter(directory)
    try:
        yield writer
    finally:
        writer.close()


@contextmanager
def exclusive(directory: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Wait until no other process prepares data in this directory (which is made if need be). Raises StorageError.

    waiting: called once a second from the second second on, to say why nothing happens.
    """
    with storage_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        file = (directory / "lock").open("wb")
    with file:  # the lock is let go when the file is closed, also by the death of the process
        waited = 0.0
        while not _locked(file):
            time.sleep(PAUSE)
            waited += PAUSE
            if waited >= PATIENCE:
                waiting()
                waited = PATIENCE - 1
        yield


def _locked(file: IO[bytes]) -> bool:
    """Whether the file could be locked for this process."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def read_index(directory: Path, key: str) -> dict[str, Any] | None:
    """The index of a store, or None if there is none that is whole, made from ``key`` and true of its files."""
    path = directory / INDEX
    if not path.is_file():
        return None
    try:
        index = json.loads(path.read_bytes())
        seal = index.pop("seal")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):  # whatever a damaged file may hold
        return None
    if seal != fingerprint(index) or index["key"] != key:
        return None
    total = sum(entry["bytes"] for entry in index["files"].values())
    for name, entry in index["files"].items():
        file = directory / f"{name}.bin"
        if not file.is_file() or file.stat().st_size != entry["bytes"]:
            return None
        if total <= HASH_LIMIT and sha256(file) != entry["sha256"]:
            return None
    return dict(index)


class Store:
    """Token trees, mapped into memory; nothing is read before it is asked for, and nothing can be written.

    ends: int64 [N, 5], where the ``PARTS`` of every tree in the files end; the parts of a store share it.
    rows: which records of the files belong to this store, in order. tokens, targets, threads, source: int64 [n], for every
    tree the tokens that are laid out for it, its target tokens (each counted once), its root-to-leaf threads, and the
    index of its source in ``sources``. replies: int64 [n], how many of its replies are ranked. Where long threads are cut when they are laid out, ``tree`` gives more tokens than
    ``tokens`` says. keys: uint8 [n, 16].
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
        """Digest of what record ``index`` says, hexadecimal: the same wherever and in whatever order it was read."""
        return str(self.keys[index].tobytes().hex())

    def highest_id(self) -> int:
        """The largest token id in the files of this store."""
        ids = self._arrays["ids"]
        return int(ids.max()) if len(ids) else -1

    def part(self, chosen: npt.NDArray[np.bool_]) -> Store:
        """The chosen records as a store of their own, on the same files. chosen: bool [n]."""
        return Store(self._arrays, self._ends, self.sources, self.rows[chosen])


def open_store(directory: Path, index: Mapping[str, Any]) -> Store:
    """All records of a store whose index was read."""
    arrays = {name: _mapped(directory / f"{name}.bin", *LAYOUT[name]) for name in LAYOUT}
    ends = np.cumsum(np.asarray(arrays["trees"])[:, : len(PARTS)], axis=0)
    return Store(arrays, ends, index["sources"], np.arange(index["records"], dtype=np.int64))


def _mapped(path: Path, kind: str, columns: int) -> Array:
    if path.stat().st_size == 0:  # an empty file cannot be mapped
        return np.zeros((0, columns), dtype=kind)
    return np.memmap(path, dtype=kind, mode="r").reshape(-1, columns)


def overlap(store: Store, other: Store) -> int:
    """How many records of ``other`` say exactly what one of ``store`` says."""
    known = {key.tobytes() for key in store.keys}
    return sum(key.tobytes() in known for key in other.keys)
