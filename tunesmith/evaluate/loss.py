"""Validation loss and token accuracy of a language model, per source and over all sources, without any randomness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from tunesmith.batch.protocols import BatchT, BatchT_contra, Collator, LogProbabilityModel
from tunesmith.data.dataset.store import Store
from tunesmith.evaluate.validation import (
    SUMS,
    EvaluatedPolicy,
    Measured,
    means_by_source,
    measure_sources,
)
from tunesmith.text.tokens.crop import CropSettings
from tunesmith.world import ALONE, Communicator


@dataclass(frozen=True, slots=True)
class ValidationLoss:
    """The loss of a policy on validation data.

    loss: mean cross-entropy of a target, in nats.
    accuracy: the share of targets that have the highest logit, 0 to 1.
    targets: the number of target tokens.
    """

    loss: float
    accuracy: float
    targets: int


class ScoringPolicy(EvaluatedPolicy, LogProbabilityModel[BatchT_contra], Protocol[BatchT_contra]):
    """A policy that computes log-probabilities and can be put into eval mode."""


def validation_loss(
    policy: ScoringPolicy[BatchT],
    store: Store,
    sources: Sequence[str],
    tokens: int,
    collate: Collator[BatchT],
    crop: CropSettings | None = None,
    world: Communicator = ALONE,
) -> dict[str, ValidationLoss]:
    """The loss on every source by name, and on all of them under "all". Every message counts once.

    The arguments are those of ``measure_sources``. A source without targets is left out.
    """

    def sums(batch: BatchT) -> Measured:
        """Float64 [3]: targets, summed cross-entropy, correct targets."""
        found = policy.log_probabilities(batch)
        values = torch.stack([-found.log_probability.double().sum(), found.correct.double().sum()])
        return {SUMS: torch.tensor([float(batch.targets), *values.tolist()], dtype=torch.float64)}

    measured = measure_sources(policy, sums, store, sources, tokens, collate=collate, crop=crop, world=world)
    return {
        source: ValidationLoss(means["loss"], means["accuracy"], int(means["units"]))
        for source, means in means_by_source(measured, ("loss", "accuracy")).items()
    }
