"""Sums over the processes of a run, as the training loop uses them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import torch
import torch.distributed as distributed
from torch import Tensor


class Communicator(Protocol):
    """The processes of a run, one or many.

    rank: number of this process, from 0.
    size: number of all processes.
    """

    rank: int
    size: int

    def sum_values(self, values: Tensor) -> Tensor:
        """Element-wise sum over all processes, in the shape and type of ``values``."""
        ...

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace every gradient by its sum over all processes."""
        ...


class SingleProcess:
    """One process: every sum is the value itself."""

    rank = 0
    size = 1

    def sum_values(self, values: Tensor) -> Tensor:
        return values

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        return None


class ProcessGroup:
    """All processes of the initialised default group of ``torch.distributed``, each with a whole copy of the model."""

    def __init__(self) -> None:
        self.rank, self.size = distributed.get_rank(), distributed.get_world_size()

    def sum_values(self, values: Tensor) -> Tensor:
        summed = values.clone()
        distributed.all_reduce(summed)
        return summed

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        for parameter in parameters:
            if parameter.grad is None:
                # A process without batches in this step still takes part in every sum.
                parameter.grad = torch.zeros_like(parameter, dtype=parameter.grad_dtype)
            distributed.all_reduce(parameter.grad)
