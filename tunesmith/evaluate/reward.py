"""How well a reward model ranks the replies of validation data, per source and over all sources."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from tunesmith.batch.packed import PackedBatch, collate_packed
from tunesmith.batch.protocols import Objective
from tunesmith.data.dataset.store import Store
from tunesmith.evaluate.ranking import ranking_metrics
from tunesmith.evaluate.validation import (
    SUMS,
    EvaluatedPolicy,
    Measured,
    add_batches,
    measure_sources,
)
from tunesmith.objectives.ranking import ScalarModel
from tunesmith.world import ALONE, Communicator


class ScalarReader(EvaluatedPolicy, ScalarModel[PackedBatch], Protocol):
    """A reward model that can be put into eval mode."""


class _KnownScores:
    """A reward model whose scores are known, so that the objective does not compute them a second time."""

    def __init__(self, scores: Tensor) -> None:
        self.scores = scores

    def scalars(self, batch: PackedBatch, where: Tensor) -> Tensor:
        return self.scores


def validation_ranking(
    policy: ScalarReader,
    objective: Objective[ScalarModel[PackedBatch], PackedBatch],
    store: Store,
    sources: Sequence[str],
    tokens: int,
    world: Communicator = ALONE,
) -> dict[str, dict[str, float]]:
    """The metrics of every source by name, and of all of them under "all".

    They are ``loss``, as the objective has it in training, and those of ``ranking_metrics``. The arguments are those of
    ``measure_sources``. A source without anything to compare is left out.
    """

    def score(batch: PackedBatch) -> Measured:
        """The R replies of a micro-batch.

        sums: float64 [2], the units of the objective and the sum of its loss.
        scores: float32 [R].
        group: int64 [R], numbered from 0 within the batch; replies to the same message share a group.
        rank: int64 [R], the lowest is the best.
        """
        replies = batch.replies
        scores = policy.scalars(batch, replies.end)
        loss = float(objective(_KnownScores(scores), batch, 1.0).sums["loss"])
        sums = torch.tensor([objective.units(batch), loss], dtype=torch.float64)
        table = torch.stack([scores.double(), replies.group.double(), replies.rank.double()]).cpu()
        return {SUMS: sums, "scores": table[0].float(), "group": table[1].long(), "rank": table[2].long()}

    scored = measure_sources(policy, score, store, sources, tokens, collate=collate_packed, world=world)
    totals = {source: add_batches(batches, 2) for source, batches in scored.items()}
    found = {source: _metrics(batches, totals[source]) for source, batches in scored.items() if totals[source][0] > 0}
    every = [batch for batches in scored.values() for batch in batches]
    return {**found, "all": _metrics(every, add_batches([{SUMS: total} for total in totals.values()], 2))}


def _metrics(batches: Sequence[Measured], total: Tensor) -> dict[str, float]:
    """The metrics of all replies in ``batches``, whose summed ``sums`` are ``total``, float64 [2]."""
    units, loss = total.tolist()
    counts = [int(batch["group"].max()) + 1 for batch in batches]
    starts = accumulate(counts, initial=0)  # groups are numbered through all batches
    group = torch.cat([batch["group"] + start for batch, start in zip(batches, starts, strict=False)])
    scores = torch.cat([batch["scores"] for batch in batches]).numpy().astype(np.float64)
    rank = torch.cat([batch["rank"] for batch in batches])
    return {"loss": loss / units, **ranking_metrics(scores, group.numpy(), rank.numpy())}
