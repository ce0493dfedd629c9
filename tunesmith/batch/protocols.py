"""What the parts promise each other about a batch: the policy to the objective, the objective to the loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from tunesmith.batch.layout import Batch


@dataclass(frozen=True, slots=True)
class Spread:
    """What the logits of each target were like. normalizer: float32 [N], their log-sum-exp. total: float32 [N], their sum
    over the ``vocabulary`` (its size)."""

    normalizer: Tensor
    total: Tensor
    vocabulary: int


@dataclass(frozen=True, slots=True)
class LogProbabilities:
    """log_probability: float32 [N], one for each target of the batch. correct: bool [N], whether it had the highest logit.
    spread: only where it was asked for."""

    log_probability: Tensor
    correct: Tensor
    spread: Spread | None = None


class Scorer(Protocol):
    """A policy as an objective sees it."""

    def log_probabilities(
        self, batch: Batch, expected_gradient: Tensor | None = None, *, spread: bool = False
    ) -> LogProbabilities:
        """See ``model.policy.Policy.log_probabilities``."""
        ...


@dataclass(frozen=True, slots=True)
class Loss:
    """loss: scalar to be differentiated, this micro-batch's share of the step's loss.

    sums: detached scalars by name, to be added over micro-batches and processes and divided by the step's units.
    """

    loss: Tensor
    sums: dict[str, Tensor]


class Objective(Protocol):
    """A loss over batches, with its count made before anything is computed.

    measures: the names of its sums; known without a batch, since a process may have none in a step.
    """

    @property
    def measures(self) -> tuple[str, ...]: ...

    def units(self, batch: Batch) -> float:
        """What one micro-batch adds to the denominator of the step's loss."""
        ...

    def __call__(self, policy: Scorer, batch: Batch, units: float) -> Loss:
        """The micro-batch's share of the loss; ``units`` is the count of the whole step, over all processes."""
        ...
