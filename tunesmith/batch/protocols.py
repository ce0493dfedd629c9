"""What the parts promise each other about a batch: the policy to the objective, the objective to the loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from tunesmith.batch.example import Example, Replies, Weighting


class MicroBatch(Protocol):
    """A batch of either kind as objective and loop see it: what is trained. What the model reads is between the batch and
    its policy. The names are those of ``layout.Batch``."""

    @property
    def target(self) -> Tensor: ...

    @property
    def weight(self) -> Tensor: ...

    @property
    def owner(self) -> Tensor: ...

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

    def to(self, device: torch.device) -> MicroBatch: ...


Collator: TypeAlias = Callable[[Iterable[Example], Weighting, int], Iterator[MicroBatch]]
"""collate(examples, weighting, tokens): the examples of a step as micro-batches of at most ``tokens`` tokens."""


@dataclass(frozen=True, slots=True)
class LogitStatistics:
    """What the logits of each target were like. normalizer: float32 [N], their log-sum-exp. total: float32 [N], their sum
    over the ``vocabulary`` (its size)."""

    normalizer: Tensor
    total: Tensor
    vocabulary: int


class StatisticsGradient(Protocol):
    """What a loss foretells of its gradient where it depends on the spread too."""

    def __call__(self, normalizer: Tensor, part: slice, vocabulary: int) -> tuple[Tensor, Tensor, Tensor]:
        """The gradient with respect to log-probability, normalizer and total of the targets in ``part`` of the batch, whose
        normalizers are given: float32 [n] each."""
        ...


@dataclass(frozen=True, slots=True)
class LogProbabilities:
    """log_probability: float32 [N], one for each target of the batch. correct: bool [N], whether it had the highest logit.
    spread: only where it was asked for."""

    log_probability: Tensor
    correct: Tensor
    statistics: LogitStatistics | None = None


@dataclass(frozen=True, slots=True)
class BlockwiseGradient:
    """The gradient of a loss that falls into blocks of targets, as soon as the log-probabilities of a block are known.

    block: int64 [N], the block of each target, 0 or more. gradient(log_probability): from float32 [N] that of the loss,
    float32 [N]; what it says of a target depends on the log-probabilities of its own block alone, all others may be anything.
    """

    block: Tensor
    gradient: Callable[[Tensor], Tensor]


GradientHint: TypeAlias = Tensor | BlockwiseGradient | None
"""What is known beforehand of the gradient of a loss with respect to the log-probabilities: float32 [N], or how to find it."""


class Scorer(Protocol):
    """A policy as an objective sees it. It reads one kind of batch; policy and ``Collator`` are chosen together."""

    def log_probabilities(
        self, batch: Any, expected_gradient: GradientHint = None, *, statistics: StatisticsGradient | None = None
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
    def metrics(self) -> tuple[str, ...]: ...

    def units(self, batch: MicroBatch) -> float:
        """What one micro-batch adds to the denominator of the step's loss."""
        ...

    def __call__(self, policy: Any, batch: Any, units: float) -> Loss:
        """The micro-batch's share of the loss; ``units`` is the count of the whole step, over all processes.

        policy, batch: of the kinds that the objective is for; they are chosen together.
        """
        ...
