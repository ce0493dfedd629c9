"""The metrics of a training objective on validation data, per source and over all sources, without any randomness."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tunesmith.batch.protocols import BatchT, Collator, Objective
from tunesmith.data.dataset.store import Store
from tunesmith.evaluate.validation import (
    SUMS,
    EvaluatedPolicyT,
    ExampleColumns,
    Measured,
    means_by_source,
    measure_sources,
)
from tunesmith.world import ALONE, Communicator


def objective_metrics(
    policy: EvaluatedPolicyT,
    objective: Objective[EvaluatedPolicyT, BatchT],
    store: Store,
    sources: Sequence[str],
    tokens: int,
    collate: Collator[BatchT],
    columns: ExampleColumns,
    world: Communicator = ALONE,
) -> dict[str, dict[str, float]]:
    """The means of ``objective.metrics`` over its units, for every source by name and over all of them under "all".

    ``units`` in the result is their number. The other arguments are those of ``measure_sources``. A source without
    units is left out.
    """

    def sums(batch: BatchT) -> Measured:
        """Float64 [1 + K]: units, then the sum of each metric."""
        found = objective(policy, batch, 1.0).sums
        values = torch.stack([found[name].double() for name in objective.metrics]).tolist()
        return {SUMS: torch.tensor([objective.units(batch), *values], dtype=torch.float64)}

    measured = measure_sources(policy, sums, store, sources, tokens, collate=collate, columns=columns, world=world)
    return means_by_source(measured, objective.metrics)
