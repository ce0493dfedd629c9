"""The device that models are put on."""

from __future__ import annotations

import os

import torch

from tunesmith.errors import UsageError

LOCAL_RANK = "LOCAL_RANK"
"""Environment variable of torchrun and of other launchers: the number of this process among those of its machine."""


def best_device() -> torch.device:
    """The GPU of this process if there is any, else the CPU.

    Raises UsageError if there are more processes than GPUs.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return choose_gpu(os.environ.get(LOCAL_RANK, "0"), torch.cuda.device_count())


def choose_gpu(local_rank: str, gpus: int) -> torch.device:
    """The GPU of a process: every process of a machine has its own.

    local_rank: number of the process among those of its machine, from 0.
    gpus: number of GPUs of the machine that this process sees.
    """
    if not local_rank.isdecimal() or int(local_rank) >= gpus:
        raise UsageError(
            f"there is no GPU for process {local_rank} of this machine, which has {gpus} GPUs",
            where=f"environment variable {LOCAL_RANK}",
            advice="start at most one process for each GPU; processes are numbered from 0",
        )
    return torch.device("cuda", int(local_rank))


def describe_device(device: torch.device) -> str:
    """The device for the user: the model of the GPU, or the CPU."""
    return f"{torch.cuda.get_device_name(device)} ({device})" if device.type == "cuda" else device.type.upper()
