"""What an objective measures, over data that are held back: for each source and for all together, without noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from tunesmith.batch.example import Example
from tunesmith.batch.protocols import Collator, Objective
from tunesmith.data.dataset.store import Store

Columns = Callable[[int], Mapping[str, NDArray[np.float32]]]
"""What is known of an example beforehand, by its number."""


class Evaluated(Protocol):
    """A policy as evaluation sees it."""

    @property
    def device(self) -> torch.device: ...

    def eval(self) -> None: ...


@torch.no_grad()
def objective_metrics(
    policy: Evaluated,
    objective: Objective,
    store: Store,
    sources: Sequence[str],
    tokens: int,
    collate: Collator,
    columns: Columns,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, dict[str, float]]:
    """Source -> measure -> mean over the objective's units, and "all"; ``units`` says how many there were.

    tokens: largest micro-batch. columns: what is known of an example beforehand. progress: called with (examples done,
    examples in all).
    """
    policy.eval()
    sums = {name: torch.zeros(1 + len(objective.metrics), dtype=torch.float64) for name in sources}
    done = 0
    for index, name in enumerate(sources):
        for batch in collate(source_examples(store, index, columns), "messages", tokens):
            units = objective.units(batch)
            found = objective(policy, batch.to(policy.device), 1.0).sums
            values = [float(found[measure]) for measure in objective.metrics]
            sums[name] += torch.tensor([units, *values], dtype=torch.float64)
            done += len(batch.examples)
            progress(done, len(store))
    measured = {name: _means(values, objective.metrics) for name, values in sums.items() if values[0] > 0}
    measured["all"] = _means(torch.stack(list(sums.values())).sum(0), objective.metrics)
    return measured


def source_examples(store: Store, index: int, columns: Columns = lambda number: {}) -> Iterator[Example]:
    """The examples of one source, in the order of the store. columns: what is known of each beforehand."""
    numbers = np.flatnonzero(store.source == index).tolist()
    return (Example(number, store.tree(number), columns=columns(number)) for number in numbers)


def _means(sums: torch.Tensor, names: Sequence[str]) -> dict[str, float]:
    units, *values = sums.tolist()
    means = {name: value / units for name, value in zip(names, values, strict=True)}
    return {**means, "units": units}
