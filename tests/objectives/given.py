"""Batches and policies whose numbers are given, so that objectives are tested without a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tunesmith.batch.columns import ADVANTAGE, OLD_LOG_PROBABILITY, OLD_VALUE, REFERENCE, RETURN
from tunesmith.batch.example import Replies
from tunesmith.batch.protocols import GradientHint, LogProbabilities, Loss
from tunesmith.model.head import target_log_probabilities
from tunesmith.objectives.proximal import ProximalPolicy

PROXIMAL_COLUMNS = (OLD_LOG_PROBABILITY, OLD_VALUE, ADVANTAGE, RETURN, REFERENCE)


@dataclass
class GivenBatch:
    """The fields of a batch that objectives read. The end of a reply is its index among the scores of the policy.

    numbers: which of the numbers of the policy belong to this batch.
    """

    owner: Tensor
    replies: Replies
    target: Tensor
    columns: dict[str, Tensor] = field(default_factory=dict)
    examples: tuple[int, ...] = (0,)
    numbers: Tensor | slice = field(default_factory=lambda: slice(None))

    @property
    def targets(self) -> int:
        return len(self.owner)

    @property
    def blocks(self) -> Tensor:
        return self.replies.blocks(self.owner)

    @property
    def weight(self) -> Tensor:
        return torch.ones(len(self.owner))


def batch_of(
    groups: Sequence[Sequence[int]],
    lengths: Sequence[int],
    *,
    scores: Sequence[float] | None = None,
    **columns: Tensor,
) -> GivenBatch:
    """groups: the ranks of the replies of every group. lengths: the targets of every reply, group after group."""
    group = torch.tensor([number for number, ranks in enumerate(groups) for _ in ranks], dtype=torch.int64)
    rank = torch.tensor([rank for ranks in groups for rank in ranks], dtype=torch.int64)
    score = torch.full((len(rank),), torch.nan) if scores is None else torch.tensor(scores)
    owner = torch.repeat_interleave(torch.arange(len(rank)), torch.tensor(lengths, dtype=torch.int64))
    replies = Replies.of(group, rank, score, torch.arange(len(rank)))
    return GivenBatch(owner, replies, torch.zeros_like(owner), columns)


def part_of(batch: GivenBatch, groups: Sequence[int]) -> GivenBatch:
    """A batch of some of the groups, in that order; its ``numbers`` are the places of its targets in the whole."""
    order = torch.tensor(
        [reply for group in groups for reply in (batch.replies.group == group).nonzero()[:, 0].tolist()]
    )
    order = order.to(torch.int64)
    numbers = torch.tensor(
        [place for reply in order.tolist() for place in (batch.owner == reply).nonzero()[:, 0].tolist()]
    )
    numbers = numbers.to(torch.int64)
    renumbered = {reply: place for place, reply in enumerate(order.tolist())}
    again = {group: place for place, group in enumerate(groups)}
    replies = Replies.of(
        torch.tensor([again[group] for group in batch.replies.group[order].tolist()], dtype=torch.int64),
        batch.replies.rank[order],
        batch.replies.score[order],
        batch.replies.end[order],
    )
    owner = torch.tensor([renumbered[reply] for reply in batch.owner[numbers].tolist()], dtype=torch.int64)
    columns = {
        name: values[order if len(values) == len(batch.replies.rank) else numbers]
        for name, values in batch.columns.items()
    }
    return GivenBatch(owner, replies, batch.target[numbers], columns, batch.examples, numbers)


class GivenLogProbabilities:
    """A policy whose log-probabilities [N] are given. hint: the last gradient hint that it was given."""

    def __init__(self, log_probability: Tensor) -> None:
        self.log_probability = log_probability
        self.hint: GradientHint = None

    def log_probabilities(
        self, batch: Any, gradient_hint: GradientHint = None, *, statistics_gradient: Any = None
    ) -> LogProbabilities:
        self.hint = gradient_hint
        own = self.log_probability[batch.numbers]
        return LogProbabilities(own, torch.ones_like(own, dtype=torch.bool))


class GivenLogits:
    """A policy whose logits [N, V] are given. exact: in the precision of the logits, not by the head of a policy."""

    def __init__(self, logits: Tensor, *, exact: bool = True) -> None:
        self.logits, self.exact = logits.requires_grad_(), exact

    def log_probabilities(
        self, batch: Any, gradient_hint: GradientHint = None, *, statistics_gradient: Any = None
    ) -> LogProbabilities:
        logits = self.logits[batch.numbers]
        if self.exact:
            own = torch.log_softmax(logits, -1).gather(1, batch.target[:, None])[:, 0]
            return LogProbabilities(own, logits.argmax(-1) == batch.target)
        identity = torch.eye(logits.shape[1])
        return LogProbabilities(*target_log_probabilities(logits, identity, None, batch.target, gradient_hint))


class GivenScores:
    """A reward model whose scores [R] are given."""

    def __init__(self, scores: Tensor) -> None:
        self.scores = scores

    def scalars(self, batch: Any, where: Tensor) -> Tensor:
        return self.scores[where]


class GivenActorCritic:
    """A policy and a value function whose numbers [N] are given."""

    def __init__(self, log_probability: Tensor, value: Tensor) -> None:
        self.log_probability, self.value = log_probability, value

    def actor_critic(self, batch: Any, gradient_hint: Any = None) -> tuple[LogProbabilities, Tensor]:
        own = self.log_probability[batch.numbers]
        return LogProbabilities(own, torch.ones_like(own, dtype=torch.bool)), self.value[batch.numbers]


def proximal_loss(
    objective: ProximalPolicy, log_probability: Tensor, value: Tensor, batch: GivenBatch, units: float | None = None
) -> Loss:
    if units is None:
        units = objective.units(batch)  # type: ignore[arg-type]
    return objective(GivenActorCritic(log_probability, value), batch, units)  # type: ignore[arg-type]
