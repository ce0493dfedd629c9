"""GPUs by name: memory and published rates."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from tunesmith.compose.sizing.memory import GIB
from tunesmith.errors import UsageError
from tunesmith.model.devices import best_device

TERA = 10**12
GIGA = 10**9


@dataclass(frozen=True, slots=True)
class Gpu:
    """One type of GPU.

    title: its name in the output.
    memory: bytes that PyTorch can use.
    rate: products in bfloat16, as floating-point operations a second; published, without sparsity.
    bandwidth: bytes a second of its memory; published.
    host_bandwidth: bytes a second to and from host memory, an assumption.
    """

    title: str
    memory: int
    rate: float
    bandwidth: float
    host_bandwidth: float


def _gpu(title: str, memory: float, rate: float, bandwidth: float, host: float) -> Gpu:
    """memory: GiB. rate: TFLOP/s. bandwidth, host: GB/s."""
    return Gpu(title, round(memory * GIB), rate * TERA, bandwidth * GIGA, host * GIGA)


GPUS: Mapping[str, Gpu] = {
    "b200": _gpu("B200", 178, 2250, 8000, 50),
    "h200": _gpu("H200", 139, 989, 4800, 50),
    "h100": _gpu("H100 80 GB", 79, 989, 3350, 50),
    "a100-80": _gpu("A100 80 GB", 79, 312, 2039, 25),
    "a100-40": _gpu("A100 40 GB", 39, 312, 1555, 25),
    "l40s": _gpu("L40S", 44, 362, 864, 25),
    "a6000": _gpu("RTX A6000", 47, 155, 768, 25),
    "5090": _gpu("RTX 5090", 31, 209, 1792, 50),
    "4090": _gpu("RTX 4090", 23.5, 165, 1008, 25),
    "3090": _gpu("RTX 3090", 23.5, 71, 936, 25),
}
"""Name on the command line -> GPU."""


def find_gpu(name: str) -> Gpu:
    """The GPU of this name. Raises UsageError."""
    if (found := GPUS.get(name.lower())) is not None:
        return found
    near = difflib.get_close_matches(name.lower(), GPUS, n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    raise UsageError(f"no GPU is known as {name!r}", where="--gpu", advice=f"{meant}known are {', '.join(GPUS)}")


def present_gpu() -> Gpu | None:
    """The GPU of this process, with the rates of its type where they are known; None without one.

    Raises UsageError if there are more processes than GPUs.
    """
    device = best_device()
    if device.type != "cuda":
        return None
    properties = torch.cuda.get_device_properties(device)
    name, memory = str(properties.name), int(properties.total_memory)
    same = [each for key, each in GPUS.items() if key.split("-")[0] in name.lower() and each.memory <= memory]
    known = max(same, key=lambda each: each.memory, default=GPUS["a100-80"])
    return Gpu(name, memory, known.rate, known.bandwidth, known.host_bandwidth)
