"""The pass over validation data that all evaluations share: measure every micro-batch, by source, without gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Protocol, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tunesmith.batch.example import Example
from tunesmith.batch.protocols import BatchT, Collator
from tunesmith.data.dataset.store import Store
from tunesmith.text.tokens.crop import CropSettings, crop_threads
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.world import ALONE, Communicator

ExampleColumns: TypeAlias = Callable[[int], Mapping[str, NDArray[np.float32]]]
"""From the number of an example in the store: the values known of it beforehand, by name (``Example.columns``)."""

Measured: TypeAlias = Mapping[str, Tensor]
"""What is measured on a micro-batch: tensors on the CPU, by name."""


class EvaluatedPolicy(Protocol):
    """What the pass needs of a policy or reward model."""

    @property
    def device(self) -> torch.device: ...

    def eval(self) -> None: ...


EvaluatedPolicyT = TypeVar("EvaluatedPolicyT", bound=EvaluatedPolicy)


def no_columns(number: int) -> Mapping[str, NDArray[np.float32]]:
    """The ``ExampleColumns`` of data of which nothing is known beforehand."""
    return {}


def evaluation_trees(store: Store, number: int, crop: CropSettings | None) -> list[TokenTree]:
    """The token trees that evaluation reads for a record: its tree, cropped where the store keeps long threads.

    Cropping is without randomness here, so every evaluation reads the same tokens.
    """
    tree = store.tree(number)
    return [tree] if crop is None else crop_threads(tree, crop, once=True)


@torch.no_grad()
def measure_sources(
    policy: EvaluatedPolicy,
    measure: Callable[[BatchT], Measured],
    store: Store,
    sources: Sequence[str],
    tokens: int,
    *,
    collate: Collator[BatchT],
    crop: CropSettings | None = None,
    columns: ExampleColumns = no_columns,
    world: Communicator = ALONE,
) -> dict[str, list[Measured]]:
    """Run ``measure`` on every micro-batch of every source, in eval mode and without gradient.

    The micro-batches are those of a single process, and each process measures some of them.

    Args:
        measure: called with a micro-batch on the device of ``policy``.
        sources: names of the sources, in the order of their numbers in ``store.source``.
        tokens: the largest number of tokens in a micro-batch.
        collate: makes micro-batches of the kind that the policy reads.
        crop: how threads are cropped that are longer than the limit; None where the store has none.
        columns: values that are known of each example beforehand.
        world: the processes that share the work; all of them get all results.

    Returns:
        The results of each source by name, in the order of its micro-batches; an empty list for a source without
        examples.
    """
    policy.eval()
    return {
        name: measure_batches(
            policy, measure, collate(_examples(store, index, crop, columns), "messages", tokens), world
        )
        for index, name in enumerate(sources)
    }


@torch.no_grad()
def measure_batches(
    policy: EvaluatedPolicy,
    measure: Callable[[BatchT], Measured],
    batches: Iterator[BatchT],
    world: Communicator,
) -> list[Measured]:
    """The results of all batches in their order, in every process, without gradient.

    Each is measured by one process; all run equally many forward passes.

    measure: called with a batch on the device of ``policy``, which is in eval mode.
    batches: those of a single process, the same in all.
    """
    own: list[Measured] = []
    count = 0
    while group := list(islice(batches, world.size)):
        count += len(group)
        # A process without a batch in the last group measures one of another process once more.
        own.append(measure(group[min(world.rank, len(group) - 1)].to(policy.device)))
    flat = {f"{place} {name}": tensor for place, found in enumerate(own) for name, tensor in found.items()}
    gathered: list[dict[str, Tensor]] = [{} for _ in range(count)]
    for rank, tensors in enumerate(world.gather_tensors(flat)):
        for key, tensor in tensors.items():
            place, name = key.split(" ", 1)
            number = int(place) * world.size + rank
            if number < count:
                gathered[number][name] = tensor
    return [*gathered]


def _examples(store: Store, source: int, crop: CropSettings | None, columns: ExampleColumns) -> Iterator[Example]:
    for number in np.flatnonzero(store.source == source).tolist():
        for tree in evaluation_trees(store, number, crop):
            yield Example(number, tree, columns=columns(number))


SUMS = "sums"
"""Name of the sums of a micro-batch in what is measured."""


def add_batches(measured: Sequence[Measured], size: int) -> Tensor:
    """The sum of the float64 tensors ``sums``, [size], of all micro-batches; zeros [size] where there is none."""
    return sum((each[SUMS] for each in measured), torch.zeros(size, dtype=torch.float64))


def means_by_source(measured: Mapping[str, Sequence[Measured]], names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Turn the sums of all micro-batches into means per source, and over all sources under "all".

    Args:
        measured: for each source and micro-batch the float64 tensor ``sums``, [1 + K]: the number of units, then the
            sums of K metrics.
        names: the K names of the metrics.

    Returns:
        Source -> metric -> mean, and ``units``: the number of units. A source without units is left out.
    """
    totals = {source: add_batches(parts, 1 + len(names)) for source, parts in measured.items()}
    means = {source: _means(total, names) for source, total in totals.items() if total[0] > 0}
    return {**means, "all": _means(torch.stack(list(totals.values())).sum(0), names)}


def _means(total: Tensor, names: Sequence[str]) -> dict[str, float]:
    units, *values = total.tolist()
    return {**{name: value / units for name, value in zip(names, values, strict=True)}, "units": units}
