"""The processes of a run, as the loop sees them: who I am, how many we are, and sums over all of us."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import torch
import torch.distributed as distributed
from torch import Tensor


class World(Protocol):
    """One process or many."""

    rank: int
    size: int

    def total(self, values: Tensor) -> Tensor:
        """Element-wise sum over all processes."""
        ...

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace every gradient by its sum over all processes."""
        ...


class SingleProcess:
    """One process: every sum is the value itself."""

    rank = 0
    size = 1

    def total(self, values: Tensor) -> Tensor:
        return values

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        return None


class Processes:
    """All processes of an initialised ``torch.distributed`` group, each with a whole copy of the model."""

    def __init__(self) -> None:
        self.rank, self.size = distributed.get_rank(), distributed.get_world_size()

    def total(self, values: Tensor) -> Tensor:
        summed = values.clone()
        distributed.all_reduce(summed)
        return summed

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        for parameter in parameters:
            if parameter.grad is None:
                # A process without work in this step still takes part in every sum.
                parameter.grad = torch.zeros_like(parameter)
            distributed.all_reduce(parameter.grad)
