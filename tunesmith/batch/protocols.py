"""The protocols between policy, objective and training loop: what each of them takes and returns.

Shapes: N targets and R replies in a batch, n targets in a part of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, Self, TypeAlias, TypeVar

import torch
from torch import Tensor

from tunesmith.batch.example import Example, Replies, Weighting


class MicroBatch(Protocol):
    """The fields that objectives and loop read of a batch of either kind; they are documented in ``PackedBatch``.

    The fields that the model reads differ between the kinds; only the policy uses them.
    """

    @property
    def target(self) -> Tensor: ...

    @property
    def weight(self) -> Tensor: ...

    @property
    def owner(self) -> Tensor: ...

    @property
    def blocks(self) -> Tensor: ...

    @property
    def examples(self) -> tuple[int, ...]: ...

    @property
    def seeds(self) -> tuple[int, ...]: ...

    @property
    def replies(self) -> Replies: ...

    @property
    def columns(self) -> Mapping[str, Tensor]: ...

    @property
    def tokens(self) -> int: ...

    @property
    def targets(self) -> int: ...

    def to(self, device: torch.device) -> Self: ...

    def pinned(self) -> Self: ...


BatchT = TypeVar("BatchT", bound=MicroBatch)
BatchT_co = TypeVar("BatchT_co", bound=MicroBatch, covariant=True)
BatchT_contra = TypeVar("BatchT_contra", bound=MicroBatch, contravariant=True)
PolicyT_contra = TypeVar("PolicyT_contra", contravariant=True)


Collator: TypeAlias = Callable[[Iterable[Example], Weighting, int], Iterator[BatchT]]
"""collate(examples, weighting, tokens): the examples of a step as micro-batches of at most ``tokens`` tokens."""


@dataclass(frozen=True, slots=True)
class LogitStatistics:
    """Statistics of the logits of each target, which regularisers need.

    logsumexp: float32 [N], log sum_v exp logit_v over the vocabulary.
    total: float32 [N], sum_v logit_v over the vocabulary.
    vocabulary: size V of the vocabulary.
    """

    logsumexp: Tensor
    total: Tensor
    vocabulary: int


class StatisticsGradient(Protocol):
    """The gradient of a loss that depends on log-probabilities and logit statistics, known before the backward pass."""

    def __call__(self, logsumexp: Tensor, part: slice, vocabulary: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """The gradients of the loss with respect to log-probability, logsumexp and total, float32 [n] each.

        None for the total where the loss does not depend on it.

        logsumexp: float32 [n], of the targets in ``part``.
        part: which targets of the batch.
        vocabulary: size of the vocabulary.
        """
        ...


@dataclass(frozen=True, slots=True)
class LogProbabilities:
    """What a policy computes for the targets of a batch.

    log_probability: float32 [N], log p(target).
    correct: bool [N], whether the target has the highest logit.
    statistics: statistics of the logits where they were asked for.
    """

    log_probability: Tensor
    correct: Tensor
    statistics: LogitStatistics | None = None


@dataclass(frozen=True, slots=True)
class BlockwiseGradient:
    """The gradient of a loss that is a sum over blocks of targets.

    It is known as soon as the log-probabilities of a block are.

    block: int64 [N], the block of each target, 0 or more; on the host, which makes a plan of it.
    gradient: maps log-probabilities, float32 [N], to the gradient of the loss with respect to them, float32 [N]. The
        gradient of a target depends only on the log-probabilities of the same block; those of other blocks may hold any
        number.
    """

    block: Tensor
    gradient: Callable[[Tensor], Tensor]


GradientHint: TypeAlias = Tensor | BlockwiseGradient | None
"""What is known beforehand of the gradient of a loss with respect to the log-probabilities: all of it, float32 [N], or
how to compute it block by block. A hint saves time and never changes a result."""


class LogProbabilityModel(Protocol[BatchT_contra]):
    """A policy as objectives on log-probabilities use it, by the kind of batch that it reads."""

    def log_probabilities(
        self,
        batch: BatchT_contra,
        gradient_hint: GradientHint = None,
        *,
        statistics_gradient: StatisticsGradient | None = None,
    ) -> LogProbabilities:
        """See ``model.policy.Policy.log_probabilities``."""
        ...


@dataclass(frozen=True, slots=True)
class Loss:
    """The loss of one micro-batch and its metrics.

    loss: scalar with gradient, the share of this micro-batch in the loss of the step.
    sums: name -> detached scalar; the loop adds them over micro-batches and processes and divides by the units of the
        step.
    """

    loss: Tensor
    sums: dict[str, Tensor]


class Objective(Protocol[PolicyT_contra, BatchT_contra]):
    """A loss over batches whose denominator is known before anything is computed, by the policy that it trains."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """The keys of ``Loss.sums``; known without a batch, since a process may have none in a step."""
        ...

    def units(self, batch: MicroBatch) -> float:
        """What a micro-batch adds to the denominator of the loss of the step."""
        ...

    def __call__(self, policy: PolicyT_contra, batch: BatchT_contra, units: float) -> Loss:
        """The share of a micro-batch in the loss.

        units: the denominator of the whole step, over all processes.
        """
        ...
