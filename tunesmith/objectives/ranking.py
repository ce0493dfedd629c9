"""Training a reward model on ranked replies: in every preference pair the chosen reply shall score higher.

Shapes: R replies, P preference pairs in a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from tunesmith.batch.protocols import BatchT, BatchT_contra, Loss, MicroBatch
from tunesmith.objectives.preference import check_scores
from tunesmith.objectives.replies import score_margins


class ScalarModel(Protocol[BatchT_contra]):
    """A model that computes one number at any token, as this objective uses it."""

    def scalars(self, batch: BatchT_contra, where: Tensor) -> Tensor:
        """float32 [K], the numbers at the tokens ``where``, int64 [K]."""
        ...


def ranking_losses(chosen: Tensor, rejected: Tensor, *, margin: Tensor | float = 0.0, l2: float = 0.0) -> Tensor:
    """[P], - log sigmoid(chosen - rejected - margin) + l2 (chosen^2 + rejected^2) / 2.

    The loss of Bradley and Terry (Ouyang et al. 2022, equation 1).
    chosen, rejected: [P], scores of the replies of each pair.
    margin: [P] or one number for all pairs, as in Touvron et al. 2023 (Llama 2, equation 2).
    l2: keeps the scores near 0, as in OpenAssistant's RMLoss.
    """
    losses = -functional.logsigmoid(chosen - rejected - margin)
    return losses + 0.5 * l2 * (chosen.square() + rejected.square()) if l2 else losses


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardRanking:
    """loss = sum over groups of the mean loss of their pairs / number of groups, both over the whole step.

    So a prompt with five replies counts as much as one with two (OpenAssistant's RMLoss). Where every group has two
    replies it is the usual mean over pairs.

    margin_scale: times the difference of the scores in the data, the margin of ``ranking_losses``.
    l2: see ``ranking_losses``.
    """

    margin_scale: float = 0.0
    l2: float = 0.0

    @property
    def metrics(self) -> tuple[str, ...]:
        """Means over the pairs of a group, then over groups.

        loss: the loss.
        accuracy: share of pairs whose chosen reply scores higher; equal scores count as wrong.
        margin: score of the chosen reply minus that of the rejected one.
        score/chosen, score/rejected: the scores.
        """
        return ("loss", "accuracy", "margin", "score/chosen", "score/rejected")

    def units(self, batch: MicroBatch) -> float:
        """The number of groups.

        Raises DataError if ``margin_scale`` needs a score that a reply of a pair does not have.
        """
        if self.margin_scale:
            check_scores(batch)
        return float(batch.replies.compared)

    def __call__(self, policy: ScalarModel[BatchT], batch: BatchT, units: float) -> Loss:
        """See ``batch.protocols.Objective``."""
        replies = batch.replies
        chosen, rejected = replies.chosen, replies.rejected
        scores = policy.scalars(batch, replies.end).double()
        margin = score_margins(replies.score, chosen, rejected, self.margin_scale)
        group = replies.group[chosen]
        none = torch.zeros(replies.groups, dtype=torch.float64, device=group.device)
        pairs = none.index_add(0, group, torch.ones_like(group, dtype=torch.float64))
        weight = 1.0 / pairs[group]
        values = {
            "loss": ranking_losses(scores[chosen], scores[rejected], margin=margin, l2=self.l2),
            "accuracy": scores[chosen] > scores[rejected],
            "margin": scores[chosen] - scores[rejected],
            "score/chosen": scores[chosen],
            "score/rejected": scores[rejected],
        }
        sums = {name: (weight * value.detach()).sum() for name, value in values.items()}
        return Loss((weight * values["loss"]).sum() / units, sums)
