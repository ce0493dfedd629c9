"""The device that models are put on."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch

from tunesmith.errors import UsageError
from tunesmith.launch import launched_process


def best_device() -> torch.device:
    """The GPU of this process if there is any, else the CPU.

    Raises UsageError if there are more processes than GPUs.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return choose_gpu(launched_process(os.environ).local_rank, torch.cuda.device_count(), os.environ)


def choose_gpu(local_rank: int, gpus: int, environment: Mapping[str, str]) -> torch.device:
    """The GPU of a process: every process of a machine has its own.

    local_rank: number of the process among those of its machine, from 0.
    gpus: number of GPUs of the machine that this process sees. With `srun --gpus-per-task=1` it sees only its own.
    """
    if gpus == 1 and "SLURM_STEP_NUM_TASKS" in environment and "LOCAL_RANK" not in environment:
        return torch.device("cuda", 0)
    if local_rank >= gpus:
        raise UsageError(
            f"there is no GPU for process {local_rank} of this machine, which has {gpus} GPUs",
            where="environment variable LOCAL_RANK or SLURM_LOCALID",
            advice="start at most one process for each GPU; processes are numbered from 0",
        )
    return torch.device("cuda", local_rank)


def describe_device(device: torch.device) -> str:
    """The device for the user: the model of the GPU, or the CPU."""
    return f"{torch.cuda.get_device_name(device)} ({device})" if device.type == "cuda" else device.type.upper()
