"""Steps that are laid out one ahead: a thread makes the next micro-batches while a GPU computes the present ones."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Generic

import torch

from tunesmith.batch.protocols import BatchT
from tunesmith.train.loop import Steps
from tunesmith.train.steps import Step


class PrefetchedSteps(Generic[BatchT]):
    """The same steps, each of them made while the one before it is computed.

    An error in making a step is raised when the step is asked for.

    steps: a step must be a function of its number alone, and not of the present weights.
    executor: has one thread.
    pin: whether batches are put into pinned memory, which needs CUDA.
    """

    def __init__(self, steps: Steps[BatchT], executor: ThreadPoolExecutor, pin: bool) -> None:
        self._steps, self._executor, self._pin = steps, executor, pin
        self._ahead: tuple[int, Future[Step[BatchT]]] | None = None

    def __len__(self) -> int:
        return len(self._steps)

    def __getitem__(self, number: int) -> Step[BatchT]:
        ahead, self._ahead = self._ahead, None
        step = ahead[1].result() if ahead is not None and ahead[0] == number else self._make(number)
        if number + 1 < len(self):
            self._ahead = number + 1, self._executor.submit(self._make, number + 1)
        return step

    def _make(self, number: int) -> Step[BatchT]:
        step = self._steps[number]
        return replace(step, batches=tuple(batch.pinned() for batch in step.batches)) if self._pin else step


@contextmanager
def prefetched(steps: Steps[BatchT], device: torch.device) -> Iterator[Steps[BatchT]]:
    """In the block, the steps laid out one ahead where a GPU computes; on a CPU a thread would only take its cores."""
    if device.type != "cuda":
        yield steps
        return
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as executor:
        try:
            yield PrefetchedSteps(steps, executor, pin=True)
        finally:
            executor.shutdown(cancel_futures=True)
