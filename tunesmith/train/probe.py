"""A probe of a micro-batch: forward and backward pass without an update, and the memory and time that they take."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, Protocol

import torch

from tunesmith.batch.protocols import BatchT, Objective
from tunesmith.train.loop import PolicyT, Steps

PROBED_STEPS = 32
"""Steps whose micro-batches are looked at to find the largest one."""
PASSES = 2
"""The first pass makes the gradients and compiles kernels; the second adds to them, as in a step, and is timed."""


class MemoryMeter(Protocol):
    """The memory of a device."""

    @property
    def total(self) -> int:
        """Bytes of the device."""

    def reset(self) -> None:
        """Forget the largest number of bytes so far."""

    def largest(self) -> int:
        """The largest number of bytes since ``reset``, with those that other programs and the driver hold."""

    def wait(self) -> None:
        """Wait until the device is done."""


class CudaMeter:
    """The memory of a GPU. device: with its number."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    @property
    def total(self) -> int:
        """See ``MemoryMeter``."""
        return int(torch.cuda.mem_get_info(self.device)[1])

    def reset(self) -> None:
        """See ``MemoryMeter``. Memory that is not in use goes back to the driver."""
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self.device)

    def largest(self) -> int:
        """See ``MemoryMeter``."""
        free, total = torch.cuda.mem_get_info(self.device)
        elsewhere = total - free - torch.cuda.memory_reserved(self.device)
        return int(torch.cuda.max_memory_reserved(self.device) + elsewhere)

    def wait(self) -> None:
        """See ``MemoryMeter``."""
        torch.cuda.synchronize(self.device)


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What a micro-batch takes.

    tokens: in it, padding included.
    seconds: of one forward and backward pass.
    largest: bytes of the device at the same time; None if they were not enough.
    total: bytes of the device.
    """

    tokens: int
    seconds: float
    largest: int | None
    total: int

    @property
    def share(self) -> float:
        """Share of the memory that was needed; above 1 if it was not enough."""
        return 1.01 if self.largest is None else self.largest / self.total


def largest_batch(steps: Steps[BatchT], start: int, *, ahead: bool) -> BatchT | None:
    """The largest micro-batch of some steps that are spread over the rest of a run; None if they have none.

    A process without batches in these steps gets an idle one, so that either all processes have a batch or none has.

    start: steps that are done.
    ahead: whether any step may be made now; otherwise only the next one is looked at.
    """
    batches = [batch for number in _chosen(start, len(steps), ahead) for batch in steps[number].batches_or_idle()]
    return max(batches, key=lambda batch: batch.tokens, default=None)


def _chosen(start: int, total: int, ahead: bool) -> Iterator[int]:
    count = min(PROBED_STEPS if ahead else 1, total - start)
    yield from (start + index * (total - start) // count for index in range(count))


@dataclass(frozen=True, slots=True)
class MemoryProbe(Generic[PolicyT, BatchT]):
    """Runs micro-batches without an update.

    policy, objective: as in training.
    meter: the memory of the device.
    """

    policy: PolicyT
    objective: Objective[PolicyT, BatchT]
    meter: MemoryMeter

    def __call__(self, batch: BatchT) -> ProbeResult:
        """The memory and the time of one micro-batch; gradients are dropped, and nothing else changes."""
        self.policy.train()
        self.meter.reset()
        largest, seconds = None, 0.0
        try:
            for _ in range(PASSES):
                self.meter.wait()
                began = time.perf_counter()
                self._pass(batch)
                self.meter.wait()
                seconds = time.perf_counter() - began
            largest = self.meter.largest()
        except torch.OutOfMemoryError:
            pass  # the result says so
        finally:
            for parameter in self.policy.parameters().values():
                parameter.grad = None
        return ProbeResult(batch.tokens, seconds, largest, self.meter.total)

    def _pass(self, batch: BatchT) -> None:
        found = self.objective(self.policy, batch.to(self.policy.device), self.objective.units(batch) or 1.0)
        found.loss.backward()  # type: ignore[no-untyped-call]
