"""Results of batches that were computed already, one line a batch, so that a killed process continues where it was.

The name of a journal is a digest of everything that decides its results, so it is also the cache of a later call with
the same model, the same items and the same code.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from tunesmith.files import fingerprint, storage_errors
from tunesmith.world import ALONE, Communicator

JsonValue: TypeAlias = Any
"""Anything that JSON can hold."""


class Journal:
    """The results of numbered pieces of work. All processes know them; the first one reads and writes the file.

    directory: where journals are; created on the first write.
    identity: everything that decides the results, JSON-like.
    world: the processes that share the work.
    """

    def __init__(self, directory: Path, identity: Mapping[str, JsonValue], world: Communicator = ALONE) -> None:
        self.path = directory / f"{fingerprint(identity)[:32]}.jsonl"
        self._world = world
        self._done = self._of_first(self._read() if world.is_first else {})

    def find(self, number: int) -> JsonValue | None:
        """The result of a piece of work; None if it is not done."""
        return self._done.get(number)

    def add(self, number: int, result: JsonValue) -> None:
        """Keep the result of a piece of work. Raises StorageError, and ValueError for NaN and infinity."""
        line = json.dumps([number, result], ensure_ascii=True, allow_nan=False, separators=(",", ":")) + "\n"
        with storage_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
            with os.fdopen(descriptor, "wb") as file:
                file.write(line.encode())
        self._done[number] = result

    def add_all(self, results: Iterable[tuple[int, JsonValue]]) -> Iterator[tuple[int, JsonValue]]:
        """Keep what the processes compute, each its own pieces of work; in the end all of them know all results.

        results: (number, result) of this process. Yields those of all in the first process, as soon as they are known.
        Raises as ``add``.
        """
        for number, result in self._world.collect(results):
            self.add(number, result)
            yield number, result
        self._done = self._of_first(self._done)

    def _of_first(self, done: dict[int, JsonValue]) -> dict[int, JsonValue]:
        """What the first process knows."""
        if self._world.size == 1:
            return done
        return dict(self._world.gather(list(done.items()) if self._world.is_first else None)[0])

    def _read(self) -> dict[int, JsonValue]:
        """The complete lines; what a killed process left behind the last of them is removed."""
        found: dict[int, JsonValue] = {}
        complete = 0
        with storage_errors(self.path):
            if not self.path.is_file():
                return found
            for line in self.path.read_bytes().splitlines(keepends=True):
                entry = _parse(line)
                if entry is None:
                    os.truncate(self.path, complete)
                    break
                found[entry[0]] = entry[1]
                complete += len(line)
        return found


def _parse(line: bytes) -> tuple[int, JsonValue] | None:
    """(number, result) of a complete line; None for anything else."""
    if not line.endswith(b"\n"):
        return None
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):  # also a number of too many digits, and lists that are nested too deeply
        return None
    if not isinstance(entry, list) or len(entry) != 2 or type(entry[0]) is not int or entry[0] < 0:
        return None
    return entry[0], entry[1]
