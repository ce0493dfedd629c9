"""Writes tensors as a safetensors file and hashes the bytes while it writes them.

The hash is that of the bytes in memory, so reading the file back verifies the disk. A full disk is an ordinary OSError
with its errno. A view is written with its own elements, without the storage behind it. Files are read with the
safetensors library.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from tunesmith.errors import StorageError
from tunesmith.model.local_rows import local_part, local_rows

TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""Types that can be stored -> their names in the safetensors format."""

CHUNK = 1 << 20
"""Bytes that are hashed and written together, small enough for the processor's cache."""


def size_in_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Bytes of all elements, of sharded tensors those of all processes; a tensor counts under every name it has."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def tied_names(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Further names of a tensor -> its first name. Tied tensors are the same elements in the same memory.

    A process without rows of a sharded tensor cannot know its names, and finds none; the first process has rows.
    """
    first: dict[tuple[object, ...], str] = {}
    tied: dict[str, str] = {}
    for name, tensor in tensors.items():
        local = local_part(tensor)
        if local_rows(tensor) is not None and not local.numel():
            continue
        memory = (local.device, local.data_ptr(), local.dtype, local.shape, local.stride())
        # A sharded tensor has no address itself; its part has.
        known = first.setdefault((local_rows(tensor), tensor.shape, *memory), name)
        if known != name:
            tied[name] = known
    return tied


def check_same_tensors(
    found: Mapping[str, tuple[torch.dtype, torch.Size]], wanted: Mapping[str, Tensor], what: str
) -> None:
    """Raises StorageError if names, shapes or types of saved tensors are not those of the tensors that they are for.

    what: the saved tensors in words.
    """
    advice = "resume with the recipe, model and optimizer that wrote the checkpoint"
    missing, extra = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    if missing or extra:
        differences = [
            f"{word} {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
            for word, names in (("missing", missing), ("unexpected", extra))
            if names
        ]
        raise StorageError(f"the saved {what} does not belong to this model ({'; '.join(differences)})", advice=advice)
    for name, tensor in wanted.items():
        if found[name] != (tensor.dtype, tensor.shape):
            dtype, shape = found[name]
            raise StorageError(
                f"the saved {what} {name!r} is {list(shape)} {dtype}, not {list(tensor.shape)} {tensor.dtype}",
                advice=advice,
            )


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write a new file; returns the SHA-256 of its content.

    Layout (safetensors): length of the header as 8 bytes, the header as JSON, the elements without gaps. Wide types
    come first, so every tensor begins at a multiple of its element size.

    Raises OSError, also if the file exists; KeyError for a type outside ``TYPES``.
    """
    ordered = dict(sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0])))
    header, position = {}, 0
    for name, tensor in ordered.items():
        end = position + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": TYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256(len(text).to_bytes(8, "little") + text)
    with path.open("xb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for chunk in _chunks(ordered):
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()


def _chunks(tensors: Mapping[str, Tensor]) -> Iterator[memoryview]:
    for tensor in tensors.values():
        elements = tensor.detach().to("cpu").contiguous().reshape(-1)
        whole = elements.view(torch.uint8).numpy().data
        for start in range(0, len(whole), CHUNK):
            yield whole[start : start + CHUNK]
