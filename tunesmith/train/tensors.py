"""Writing tensors as a safetensors file, hashed on the way.

The hash is that of the bytes in memory, so that reading the file back proves the disk right; a full disk is an ordinary
OSError with its number; a view is written with its own numbers, never with the storage behind it. Files are read with
the safetensors library.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

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
"""Types that can be stored -> their names in the file format."""

CHUNK = 1 << 20
"""Bytes that are hashed and written together, while they are in the processor's cache."""


def size_in_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Bytes of the numbers themselves, each tensor counted under every name it has."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def ties(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Further names of a tensor -> its first name. The same tensor means the same numbers in the same memory."""
    first: dict[tuple[object, ...], str] = {}
    tied: dict[str, str] = {}
    for name, tensor in tensors.items():
        identity = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        known = first.setdefault(identity, name)
        if known != name:
            tied[name] = known
    return tied


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write a new file; returns the SHA-256 of its content. Raises OSError; a type outside ``TYPES`` is a KeyError.

    Layout (safetensors): length of the header as 8 bytes, the header as JSON, the numbers without gaps. Wide types come
    first, so that every tensor begins at a multiple of its element size.
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
        numbers = tensor.detach().to("cpu").contiguous().reshape(-1)
        whole = numbers.view(torch.uint8).numpy().data
        for start in range(0, len(whole), CHUNK):
            yield whole[start : start + CHUNK]
