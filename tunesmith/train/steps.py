"""Steps over a data set: a plan chooses the examples of each step, a store holds their tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Generic

import numpy as np
from numpy.typing import NDArray

from tunesmith.batch.example import Example, Weighting
from tunesmith.batch.protocols import BatchT, BatchT_co, Collator
from tunesmith.data.dataset.plan import Plan, PlannedStep
from tunesmith.data.dataset.store import Store
from tunesmith.draws import crop_seed, noise_seed
from tunesmith.text.tokens.crop import CropSettings, crop_threads
from tunesmith.world import deal


@dataclass(frozen=True, slots=True)
class Step(Generic[BatchT_co]):
    """The data of one optimizer step. A step without batches updates nothing.

    number: from 0.
    epoch: from 0.
    examples: numbers of all examples of the step, over all processes.
    batches: the micro-batches of this process.
    metrics: metrics that are reported with the step, next to those of the objective.
    idle: makes a small batch for the passes that a process without further batches runs together with the others; None
        in a step without batches.
    """

    number: int
    epoch: int
    examples: tuple[int, ...]
    batches: tuple[BatchT_co, ...]
    metrics: Mapping[str, float] = field(default_factory=dict)
    idle: Callable[[], BatchT_co] | None = None

    def batches_or_idle(self) -> tuple[BatchT_co, ...]:
        """The micro-batches of this process, or the idle one if it has none; nothing in a step without batches."""
        return self.batches or (() if self.idle is None else (self.idle(),))


Columns = Callable[[int], Mapping[str, NDArray[np.float32]]]
"""Number of an example -> its columns: name -> float32 value of each of its targets or replies."""


def no_columns(number: int) -> Mapping[str, NDArray[np.float32]]:
    """No example has columns."""
    return {}


@dataclass(frozen=True, slots=True)
class DatasetSteps(Generic[BatchT]):
    """``steps[s]`` for every s in range(len(steps)). It has no state, so steps may be asked for in any order.

    plan: which examples each step trains on.
    store: the token trees of the examples.
    weighting: how often a shared message counts.
    tokens: largest micro-batch.
    seed: of dropout and of crops.
    collate: makes micro-batches of the kind that the policy reads.
    crop: how threads that are longer than the limit are cropped; None: the store has none.
    rank, processes: number of this process and of all processes; a step is divided between them.
    columns: columns of every example.
    """

    plan: Plan
    store: Store
    weighting: Weighting
    tokens: int
    seed: int
    collate: Collator[BatchT]
    crop: CropSettings | None = None
    rank: int = 0
    processes: int = 1
    columns: Columns = no_columns

    def __len__(self) -> int:
        return self.plan.total_steps

    def __getitem__(self, number: int) -> Step[BatchT]:
        planned = self.plan.step(number)
        idle = partial(self._idle, planned) if planned.examples else None
        return Step(number, planned.epoch, planned.examples, self.batches(self.examples(number)), idle=idle)

    def batches(self, examples: Sequence[Example]) -> tuple[BatchT, ...]:
        """The micro-batches of the examples of one step."""
        return tuple(self.collate(examples, self.weighting, self.tokens))

    def examples(self, number: int) -> list[Example]:
        """The examples of a step that this process trains on, in order."""
        planned = self.plan.step(number)
        copies = planned.copies or (0,) * len(planned.examples)
        share = deal([int(self.store.tokens[index]) for index in planned.examples], self.processes)[self.rank]
        own = [(planned.examples[place], copies[place]) for place in share]
        return [example for index, copy in own for example in self._examples(planned.epoch, index, copy)]

    def _idle(self, planned: PlannedStep) -> BatchT:
        """A batch of the shortest example of a step."""
        shortest = min(planned.examples, key=lambda index: int(self.store.tokens[index]))
        return self.batches(list(self._examples(planned.epoch, shortest, 0)))[0]

    def _examples(self, epoch: int, number: int, copy: int) -> Iterator[Example]:
        """One example, or several where a tree with long threads is cropped."""
        trees = [self.store.tree(number)]
        seed, once = noise_seed(self.seed, epoch, number, copy), self.weighting == "messages"
        if self.crop is not None:
            trees = crop_threads(trees[0], self.crop, crop_seed(self.seed, epoch, number, copy), once=once)
        columns = self.columns(number)
        yield from (Example(number, tree, seed, columns) for tree in trees)
