"""The tensors of one group of a checkpoint, in one file or in one file for each process that has a part of them.

    model.safetensors                       whole tensors, of a run whose model is not sharded
    model-00001-of-00002.safetensors, ...   the rows of one process each; a tensor without rows in it is left out
    model.index.json                        {"tensors": {name: {"dtype": "F32", "shape": [50304, 4096]}},
                                             "files": {file: {name: first row, or null for a whole tensor}}}

Any number of processes reads the files of any other number: each reads the rows that it needs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tunesmith.model.local_rows import Rows, is_first_copy, local_part, local_rows
from tunesmith.train.tensors import TYPES

SUFFIX, INDEX = ".safetensors", ".index.json"

NAMES = {name: dtype for dtype, name in TYPES.items()}
"""Names of types in the safetensors format -> types."""

Layout = Mapping[str, int | None]
"""Name of a tensor in a file -> its first row there, or None for a whole tensor."""


@dataclass(frozen=True, slots=True)
class GroupIndex:
    """What the files of a group hold together.

    tensors: name -> (type in the safetensors format, shape).
    files: name of a file -> what it holds.
    """

    tensors: Mapping[str, tuple[str, tuple[int, ...]]]
    files: Mapping[str, Layout]

    def text(self) -> bytes:
        """The content of the index file."""
        tensors = {name: {"dtype": dtype, "shape": list(shape)} for name, (dtype, shape) in self.tensors.items()}
        content = {"tensors": tensors, "files": {name: dict(layout) for name, layout in self.files.items()}}
        return json.dumps(content, indent=1, ensure_ascii=False).encode() + b"\n"


def file_name(group: str, rank: int, size: int) -> str:
    """The name of the file that a process writes; ``size`` of them belong together."""
    return f"{group}-{rank + 1:05d}-of-{size:05d}{SUFFIX}"


def is_divided(tensors: Mapping[str, Tensor]) -> bool:
    """Whether some process has only a part of some tensor."""
    return any((rows := local_rows(each)) is not None and rows != (0, each.shape[0]) for each in tensors.values())


def own_parts(tensors: Mapping[str, Tensor], *, is_first: bool) -> tuple[dict[str, Tensor], Layout]:
    """(the parts that this process writes, their places). is_first: whether whole tensors are among them."""
    parts: dict[str, Tensor] = {}
    layout: dict[str, int | None] = {}
    for name, tensor in tensors.items():
        rows, local = local_rows(tensor), local_part(tensor)
        if is_first if rows is None else is_first_copy(tensor) and len(local):
            parts[name], layout[name] = local, None if rows is None else rows.first
    return parts, layout


def parse_index(text: bytes) -> GroupIndex | None:
    """The index in a file; None if it is not exactly what is written. ``find_index_fault`` compares it with files."""
    try:
        content = json.loads(text)
        tensors = {name: (each["dtype"], tuple(each["shape"])) for name, each in content["tensors"].items()}
        files = {name: dict(layout) for name, layout in content["files"].items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    sizes = [size for _, shape in tensors.values() for size in shape]
    places = [first for layout in files.values() for first in layout.values() if first is not None]
    types = [dtype for dtype, _ in tensors.values()]
    natural = all(type(each) is int and each >= 0 for each in (*sizes, *places))
    known = all(isinstance(each, str) and each in NAMES for each in types)
    found = GroupIndex(tensors, files)
    return found if natural and known and found.text() == text else None


@dataclass(frozen=True, slots=True)
class _Place:
    """Consecutive rows of a tensor in an opened file. first: number of the first one."""

    file: Any
    first: int
    shape: tuple[int, ...]
    dtype: str
    is_whole: bool

    @property
    def end(self) -> int:
        return self.first + self.shape[0]


class GroupReader:
    """Reads the tensors of a group, whole or by rows.

    places: name -> where its rows are, in their order.
    tied: further name of a tensor -> its first name.
    """

    def __init__(self, places: Mapping[str, Sequence[_Place]], tied: Mapping[str, str]) -> None:
        self._places, self._tied = places, tied

    def names(self) -> list[str]:
        """All names of all tensors."""
        return [*self._places, *self._tied]

    def ties_exist(self) -> bool:
        """Whether every further name belongs to a tensor, and is not that of another."""
        return all(first in self._places and name not in self._places for name, first in self._tied.items())

    def first_name(self, name: str) -> str:
        """The first name of a tensor, under which it is stored."""
        return self._tied.get(name, name)

    def describe(self) -> dict[str, tuple[torch.dtype, torch.Size]]:
        """Name -> (type, shape) of every tensor."""
        found = {}
        for name in self.names():
            *_, last = self._places[self.first_name(name)]
            shape = last.shape if last.is_whole else (last.end, *last.shape[1:])
            found[name] = (NAMES[last.dtype], torch.Size(shape))
        return found

    def read(self, name: str) -> Tensor:
        """A whole tensor, on the CPU."""
        places = self._places[self.first_name(name)]
        if places[0].is_whole:
            return places[0].file.get_tensor(self.first_name(name))  # type: ignore[no-any-return]
        found = torch.empty((places[-1].end, *places[0].shape[1:]), dtype=NAMES[places[0].dtype])
        self.copy_rows(name, Rows(0, places[-1].end), found)
        return found

    def copy_rows(self, name: str, rows: Rows | None, target: Tensor) -> None:
        """Copy some rows of a tensor, or a whole one, into ``target``; nothing else is read."""
        if rows is None:
            target.copy_(self.read(name))
            return
        name = self.first_name(name)
        for place in self._places[name]:
            first, end = max(rows.first, place.first), min(rows.end, place.end)
            if first < end:
                part = place.file.get_slice(name)[first - place.first : end - place.first]
                target[first - rows.first : end - rows.first].copy_(part)


@contextmanager
def open_group(directory: Path, group: str, index: GroupIndex | None, tied: Mapping[str, str]) -> Iterator[GroupReader]:
    """The tensors of a group in the directory of a checkpoint. index: None for one file of whole tensors."""
    with ExitStack() as stack:
        layouts = {f"{group}{SUFFIX}": None} if index is None else index.files
        places: dict[str, list[_Place]] = {}
        for file, layout in layouts.items():
            opened = stack.enter_context(safe_open(directory / file, framework="pt", device="cpu"))
            for name in opened.keys():  # noqa: SIM118 - it is no mapping
                header, first = opened.get_slice(name), layout[name] if layout is not None else None
                place = _Place(opened, first or 0, tuple(header.get_shape()), header.get_dtype(), first is None)
                places.setdefault(name, []).append(place)
        yield GroupReader({name: sorted(each, key=lambda place: place.first) for name, each in places.items()}, tied)


WHOLE = (0, -1)
"""Takes the place of a range of rows for a whole tensor."""


def find_index_fault(directory: Path, index: GroupIndex) -> str | None:
    """What does not agree between an index and its files; None if every row of every tensor is there exactly once."""
    rows: dict[str, list[tuple[int, int]]] = {name: [] for name in index.tensors}
    for file, layout in index.files.items():
        try:
            with safe_open(directory / file, framework="pt", device="cpu") as opened:
                found = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118 - it is no mapping
                shapes = {name: (each.get_dtype(), tuple(each.get_shape())) for name, each in found.items()}
        except SafetensorError:
            return f"{file} is not a safetensors file"
        if shapes.keys() != layout.keys() or not shapes.keys() <= index.tensors.keys():
            return f"{file} holds other tensors than its index says"
        for name, (dtype, shape) in shapes.items():
            wanted, first = index.tensors[name], layout[name]
            if dtype != wanted[0] or (shape != wanted[1] if first is None else shape[1:] != wanted[1][1:] or not shape):
                return f"{name!r} in {file} has another type or shape than its index says"
            rows[name].append(WHOLE if first is None else (first, first + shape[0]))
    for name, parts in rows.items():
        if not _cover(sorted(parts), index.tensors[name][1]):
            return f"the rows of {name!r} are not there exactly once"
    return None


def _cover(parts: Sequence[tuple[int, int]], shape: Sequence[int]) -> bool:
    """Whether ranges of rows follow each other from the first row to the last, or there is one whole tensor."""
    if WHOLE in parts or not parts:
        return parts == [WHOLE]
    ends = [0, *(end for _, end in parts)]
    return [first for first, _ in parts] == ends[:-1] and ends[-1] == shape[0]
