"""Training a reward model on ranked replies: in every pair of a group the better reply shall score higher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from tunesmith.batch.protocols import Loss, MicroBatch
from tunesmith.objectives.preference import check_scores
from tunesmith.objectives.replies import ordered_pairs, score_margins


class ScalarScorer(Protocol):
    """A model that reads one number at any token, as this objective sees it."""

    def scalars(self, batch: Any, where: Tensor) -> Tensor:
        """float32 [K]: the numbers at the tokens ``where``, int64 [K]."""
        ...


def ranking_losses(better: Tensor, worse: Tensor, *, margin: Tensor | float = 0.0, l2: float = 0.0) -> Tensor:
    """[P] - log sigma(better - worse - margin) + l2 (better^2 + worse^2) / 2, from the scores of every pair.

    Bradley-Terry (Ouyang et al. 2022, equation 1); the margin as in Touvron et al. 2023 (Llama 2, equation 2); l2 holds the
    scores near 0, as in OpenAssistant's RMLoss.
    """
    losses = -functional.logsigmoid(better - worse - margin)
    return losses + 0.5 * l2 * (better.square() + worse.square()) if l2 else losses


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardRanking:
    """loss = sum over groups of the mean loss of their pairs / number of groups, both over the whole step.

    So a prompt with five replies counts as much as one with two (OpenAssistant's RMLoss); where every group is a pair it is
    the usual mean. margin_scale: times the difference of the scores in the data, taken from the difference of the scores.
    """

    margin_scale: float = 0.0
    l2: float = 0.0

    @property
    def metrics(self) -> tuple[str, ...]:
        """Means over the pairs of a group, then over groups. ``accuracy``: share of pairs in order; a tie counts as wrong."""
        return ("loss", "accuracy", "margin", "score/chosen", "score/rejected")

    def units(self, batch: MicroBatch) -> float:
        """The number of groups. Raises DataError if ``margin_scale`` needs a score that a reply of a pair does not have."""
        better, worse = ordered_pairs(batch.replies.group, batch.replies.rank)
        if self.margin_scale:
            check_scores(batch, better, worse)
        return float(len(set(batch.replies.group[better].tolist())))

    def __call__(self, policy: ScalarScorer, batch: MicroBatch, units: float) -> Loss:
        replies = batch.replies
        better, worse = ordered_pairs(replies.group, replies.rank)
        scores = policy.scalars(batch, replies.end).double()
        chosen, rejected = scores[better], scores[worse]
        margin = score_margins(replies.score, better, worse, self.margin_scale)
        group = replies.group[better]
        share = 1.0 / torch.bincount(group)[group].double()
        measured = {
            "loss": ranking_losses(chosen, rejected, margin=margin, l2=self.l2),
            "accuracy": chosen > rejected,
            "margin": chosen - rejected,
            "score/chosen": chosen,
            "score/rejected": rejected,
        }
        sums = {name: (share * values.detach()).sum() for name, values in measured.items()}
        return Loss((share * measured["loss"]).sum() / units, sums)
