"""Moving the tensors of a batch to another device, without waiting for a GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

Change: TypeAlias = Callable[[Tensor], Tensor]
"""What is done with every tensor of a batch."""


def move(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on another device.

    From the host the copy is queued and not waited for: work on the device that is queued later finds it done. Memory
    that is not pinned is copied to a buffer of the driver first, so it may be freed at once in either case. A copy to
    the host is waited for.
    """
    return tensor.to(device, non_blocking=tensor.device.type == "cpu")
