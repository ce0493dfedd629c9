"""Learning from preferences without a reward model: DPO and its family, over all preference pairs of every group of
replies.

Shapes: N targets, R replies, P preference pairs in a batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tunesmith.batch.columns import REFERENCE
from tunesmith.batch.example import Replies
from tunesmith.batch.protocols import BatchT, BlockwiseGradient, LogProbabilityModel, Loss, MicroBatch
from tunesmith.errors import DataError
from tunesmith.objectives.preference_losses import (
    PreferenceLoss,
    implicit_rewards,
    policy_weights,
    preference_losses,
)
from tunesmith.objectives.replies import reply_log_probabilities, score_margins


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceOptimization:
    """loss = sum over pairs of l(logit) / number of pairs, both over the whole step; see ``preference_losses`` for l.

    A group of K replies with different ranks has K (K - 1) / 2 pairs; replies of equal rank form none. The weights of
    targets are not used, because the log-probability of a reply is a plain sum.

    loss: which l.
    beta: factor of the log-ratios.
    label_smoothing: share of the labels that are assumed to be wrong.
    length_normalized: whether log-probabilities of replies are means over their targets instead of sums.
    target_margin: subtracted from the logit.
    margin_scale: times the difference of the scores in the data, subtracted from the logit.
    policy_weighted: whether pairs are weighted as in WPO.
    sft_weight: factor of an auxiliary loss per pair: the mean negative log-probability of a target of the best reply
        of the group (the mean over the best, if there are several).
    reference_free: whether there is no reference (SimPO). Otherwise the batch has the column ``reference``, float32
        [R]: the sum of the log-probabilities of each reply under the reference.
    """

    loss: PreferenceLoss = "sigmoid"
    beta: float = 0.1
    label_smoothing: float = 0.0
    length_normalized: bool = False
    target_margin: float = 0.0
    margin_scale: float = 0.0
    policy_weighted: bool = False
    sft_weight: float = 0.0
    reference_free: bool = False

    @property
    def metrics(self) -> tuple[str, ...]:
        """Means over pairs.

        loss: the loss.
        rewards/chosen, rewards/rejected, rewards/margins: beta (log pi - log ref) and its difference.
        rewards/accuracies: share of pairs whose chosen reply has the higher reward; equal rewards count as wrong.
        logps/chosen, logps/rejected: log-probabilities of the replies; means over targets with ``length_normalized``.
        logps/improved: share of pairs whose chosen reply is more probable under the policy than under the reference.
        weight: the weight of WPO.
        sft_loss: the auxiliary loss without its factor.
        """
        names = [
            "loss",
            "rewards/chosen",
            "rewards/rejected",
            "rewards/margins",
            "rewards/accuracies",
            "logps/chosen",
            "logps/rejected",
        ]
        if not self.reference_free:
            names.append("logps/improved")
        if self.policy_weighted:
            names.append("weight")
        if self.sft_weight:
            names.append("sft_loss")
        return tuple(names)

    @property
    def initial_loss(self) -> float | None:
        """The loss of a policy that equals its reference; None where it depends on the data."""
        if self.reference_free or self.margin_scale or self.policy_weighted or self.sft_weight:
            return None
        logit = torch.tensor(-self.target_margin, dtype=torch.float64)
        return float(preference_losses(logit, self.loss, beta=self.beta, label_smoothing=self.label_smoothing))

    def units(self, batch: MicroBatch) -> float:
        """The number of pairs.

        Raises DataError if ``margin_scale`` needs a score that a reply of a pair does not have.
        """
        if self.margin_scale:
            check_scores(batch)
        return float(len(batch.replies.chosen))

    def __call__(self, policy: LogProbabilityModel[BatchT], batch: BatchT, units: float) -> Loss:
        """See ``batch.protocols.Objective``."""

        def gradient(log_probability: Tensor) -> Tensor:
            with torch.enable_grad():
                leaf = log_probability.detach().requires_grad_()
                return torch.autograd.grad(self._pair_values(leaf, batch)["loss"].sum() / units, leaf)[0]

        # The loss of a group depends on its own log-probabilities only, so its gradient is known as soon as they are.
        hint = BlockwiseGradient(batch.blocks, gradient)
        found = policy.log_probabilities(batch, gradient_hint=hint)
        values = self._pair_values(found.log_probability, batch)
        sums = {name: value.detach().double().sum() for name, value in values.items()}
        return Loss(values["loss"].sum() / units, sums)

    def _pair_values(self, log_probability: Tensor, batch: MicroBatch) -> dict[str, Tensor]:
        """Name of a metric -> [P], the loss and all metrics of each pair.

        log_probability: float32 [N], of the targets.
        """
        replies = batch.replies
        chosen, rejected = replies.chosen, replies.rejected
        sums, lengths = reply_log_probabilities(log_probability, batch.owner, len(replies.rank))
        means = sums.double() / lengths
        log_probabilities = means if self.length_normalized else sums.double()
        rewards = implicit_rewards(log_probabilities, self._reference(batch, lengths), self.beta)
        margins = score_margins(replies.score, chosen, rejected, self.margin_scale)
        logit = rewards[chosen] - rewards[rejected] - self.target_margin - margins
        losses = preference_losses(logit, self.loss, beta=self.beta, label_smoothing=self.label_smoothing)
        values = {
            "rewards/chosen": rewards[chosen],
            "rewards/rejected": rewards[rejected],
            "rewards/margins": rewards[chosen] - rewards[rejected],
            "rewards/accuracies": rewards[chosen] > rewards[rejected],
            "logps/chosen": log_probabilities[chosen],
            "logps/rejected": log_probabilities[rejected],
        }
        if not self.reference_free:
            values["logps/improved"] = rewards[chosen] > 0
        if self.policy_weighted:
            values["weight"] = policy_weights(means[chosen], means[rejected])
            losses = losses * values["weight"]
        if self.sft_weight:
            values["sft_loss"] = -_mean_of_best_replies(means, replies)
            losses = losses + self.sft_weight * values["sft_loss"]
        return {"loss": losses, **values}

    def _reference(self, batch: MicroBatch, lengths: Tensor) -> Tensor | None:
        """float64 [R], log-probabilities of the replies under the reference, as sums or means; None without a
        reference.

        lengths: float64 [R], targets of each reply.
        """
        if self.reference_free:
            return None
        reference = batch.columns[REFERENCE].double()
        return reference / lengths if self.length_normalized else reference


def _mean_of_best_replies(means: Tensor, replies: Replies) -> Tensor:
    """[P], for each pair the mean of ``means`` over the best replies of its group, which are rejected in no pair.

    means: [R].
    """
    best = torch.ones_like(means).index_fill(0, replies.rejected, 0.0)
    empty = torch.zeros(replies.groups, dtype=means.dtype, device=means.device)
    each = empty.index_add(0, replies.group, best * means) / empty.index_add(0, replies.group, best)
    return each[replies.group[replies.chosen]]


def check_scores(batch: MicroBatch) -> None:
    """Raises DataError if a reply of a pair has no score in the data."""
    replies = batch.replies
    if bool((replies.score[replies.chosen] + replies.score[replies.rejected]).isnan().any()):
        raise DataError(
            "objective.margin_scale needs a score for every ranked reply, and some have none",
            where=f"examples {', '.join(map(str, batch.examples[:8]))}",
            advice="set margin_scale to 0, or use data with scores",
        )
