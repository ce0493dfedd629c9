"""Steps from demonstrations: the plan says which examples, the store has their tokens, this makes the micro-batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tunesmith.batch.example import Example, Weighting
from tunesmith.batch.packed import collate_packed
from tunesmith.batch.protocols import Collator, MicroBatch
from tunesmith.data.dataset.plan import Plan
from tunesmith.data.dataset.store import Store
from tunesmith.draws import crop_seed, noise_seed
from tunesmith.text.tokens.crop import CropSettings, crop_threads


@dataclass(frozen=True, slots=True)
class Step:
    """number: 0-based. examples: the numbers of all examples of the step, over all processes. batches: this process's share.

    measures: what is told with the step besides those of its loss. A step without batches moves nothing.
    """

    number: int
    epoch: int
    examples: tuple[int, ...]
    batches: tuple[MicroBatch, ...]
    metrics: Mapping[str, float] = field(default_factory=dict)


Columns = Callable[[int], Mapping[str, NDArray[np.float32]]]
"""What is known of an example's targets or replies, by its number."""


def no_columns(number: int) -> Mapping[str, NDArray[np.float32]]:
    """Nothing is known of any example."""
    return {}


@dataclass(frozen=True, slots=True)
class DatasetSteps:
    """``steps[s]`` for every s in range(len(steps)), in any order, without state.

    tokens: largest micro-batch. shortening: what becomes of long threads that the store has whole.
    rank, processes: which share of each step this process takes. collate: makes batches of the kind that the policy reads.
    columns: what is known of an example beforehand.
    """

    plan: Plan
    store: Store
    weighting: Weighting
    tokens: int
    seed: int
    crop: CropSettings | None = None
    rank: int = 0
    processes: int = 1
    collate: Collator = collate_packed
    columns: Columns = no_columns

    def __len__(self) -> int:
        return self.plan.total_steps

    def __getitem__(self, number: int) -> Step:
        planned = self.plan.step(number)
        return Step(number, planned.epoch, planned.examples, self.batches(self.examples(number)))

    def batches(self, examples: Sequence[Example]) -> tuple[MicroBatch, ...]:
        """Examples of one step, laid out."""
        return tuple(self.collate(examples, self.weighting, self.tokens))

    def examples(self, number: int) -> list[Example]:
        """What this process lays out in a step, in order."""
        planned = self.plan.step(number)
        copies = planned.copies or (0,) * len(planned.examples)
        mine = list(zip(planned.examples, copies, strict=True))[self.rank :: self.processes]
        return [example for n, copy in mine for example in self._examples(planned.epoch, n, copy)]

    def _examples(self, epoch: int, number: int, copy: int) -> Iterator[Example]:
        trees = [self.store.tree(number)]
        seed, once = noise_seed(self.seed, epoch, number, copy), self.weighting == "messages"
        if self.crop is not None:
            trees = crop_threads(trees[0], self.crop, crop_seed(self.seed, epoch, number, copy), once=once)
        columns = self.columns(number)
        yield from (Example(number, tree, seed, columns) for tree in trees)
