"""Learning from preferences without a reward model: DPO and its family, over all pairs of every group of ranked replies."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tunesmith.batch.protocols import BlockwiseGradient, Loss, MicroBatch, Scorer
from tunesmith.errors import DataError
from tunesmith.objectives.preference_losses import (
    PreferenceLoss,
    implicit_rewards,
    pair_losses,
    policy_weights,
)
from tunesmith.objectives.replies import ordered_pairs, reply_log_probabilities, score_margins


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceOptimization:
    """loss = sum over pairs of l(logit) / number of pairs, both over the whole step; see ``preference_losses`` for l.

    A group of K replies of different rank is K (K - 1) / 2 pairs; replies of equal rank form none. The weight of targets
    has no part in it: a reply's log-probability is a plain sum.

    length_normalized: log-probabilities are means over a reply's targets, not sums. target_margin, margin_scale: taken from
    the logit; the second times the difference of the scores in the data. policy_weighted: pairs weighted as in WPO.
    sft_weight: adds, for every pair, this times the mean negative log-probability of a target of its group's best reply
    (the mean over the best, if several are). reference_free: no reference, as SimPO; otherwise the batch's column
    ``reference`` has the sum of the reference's log-probabilities for every reply.
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
        """Means over pairs. ``rewards`` are beta (log pi - log rho); a tie of them counts as wrong. ``logps`` are what the
        loss reads: means over targets where it is normalised by length. ``logps/improved``: share of pairs whose better
        reply the policy finds more probable than the reference does. ``weight``: of WPO. ``sft_loss``: without its factor."""
        names = ["loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies"]
        names += ["logps/chosen", "logps/rejected"]
        names += ["logps/improved"] * (not self.reference_free)
        names += ["weight"] * self.policy_weighted
        names += ["sft_loss"] * bool(self.sft_weight)
        return tuple(names)

    @property
    def initial_loss(self) -> float | None:
        """The loss of a policy that is its own reference, whatever the data; None where it depends on them."""
        if self.reference_free or self.margin_scale or self.policy_weighted or self.sft_weight:
            return None
        logit = torch.tensor(-self.target_margin, dtype=torch.float64)
        return float(pair_losses(logit, self.loss, beta=self.beta, label_smoothing=self.label_smoothing))

    def units(self, batch: MicroBatch) -> float:
        """The number of pairs. Raises DataError if ``margin_scale`` needs a score that a reply of a pair does not have."""
        better, worse = ordered_pairs(batch.replies.group, batch.replies.rank)
        if self.margin_scale:
            check_scores(batch, better, worse)
        return float(len(better))

    def __call__(self, policy: Scorer, batch: MicroBatch, units: float) -> Loss:
        def gradient(log_probability: Tensor) -> Tensor:
            with torch.enable_grad():
                leaf = log_probability.detach().requires_grad_()
                return torch.autograd.grad(self._measured(leaf, batch)["loss"].sum() / units, leaf)[0]

        # What a group has to do with the loss is known as soon as its own log-probabilities are.
        hint = BlockwiseGradient(batch.replies.group[batch.owner], gradient)
        found = policy.log_probabilities(batch, expected_gradient=hint)
        measured = self._measured(found.log_probability, batch)
        sums = {name: value.detach().double().sum() for name, value in measured.items()}
        return Loss(measured["loss"].sum() / units, sums)

    def _measured(self, log_probability: Tensor, batch: MicroBatch) -> dict[str, Tensor]:
        """The loss and all else that is measured, one number for each pair, from those of the targets."""
        replies = batch.replies
        better, worse = ordered_pairs(replies.group, replies.rank)
        sums, lengths = reply_log_probabilities(log_probability, batch.owner, len(replies.rank))
        means = sums.double() / lengths
        own = means if self.length_normalized else sums.double()
        rewards = implicit_rewards(own, self._reference(batch, lengths), self.beta)
        margins = score_margins(replies.score, better, worse, self.margin_scale)
        logit = rewards[better] - rewards[worse] - self.target_margin - margins
        each = pair_losses(logit, self.loss, beta=self.beta, label_smoothing=self.label_smoothing)
        values = {
            "rewards/chosen": rewards[better],
            "rewards/rejected": rewards[worse],
            "rewards/margins": rewards[better] - rewards[worse],
            "rewards/accuracies": rewards[better] > rewards[worse],
            "logps/chosen": own[better],
            "logps/rejected": own[worse],
        }
        if not self.reference_free:
            values["logps/improved"] = rewards[better] > 0
        if self.policy_weighted:
            values["weight"] = policy_weights(means[better], means[worse])
            each = each * values["weight"]
        if self.sft_weight:
            values["sft_loss"] = -_best_of_groups(means, replies.group, better, worse)
            each = each + self.sft_weight * values["sft_loss"]
        return {"loss": each, **values}

    def _reference(self, batch: MicroBatch, lengths: Tensor) -> Tensor | None:
        """[R] the reference's log-probabilities, in the units of the policy's; none without a reference."""
        if self.reference_free:
            return None
        reference = batch.columns["reference"].double()
        return reference / lengths if self.length_normalized else reference


def _best_of_groups(means: Tensor, group: Tensor, better: Tensor, worse: Tensor) -> Tensor:
    """[P] for every pair the mean of ``means`` over the best replies of its group: those that are worse than none."""
    best = torch.ones_like(means).index_fill(0, worse, 0.0)
    groups = int(group.max()) + 1 if len(group) else 0
    empty = torch.zeros(groups, dtype=means.dtype, device=means.device)
    each = empty.index_add(0, group, best * means) / empty.index_add(0, group, best)
    return each[group[better]]


def check_scores(batch: MicroBatch, better: Tensor, worse: Tensor) -> None:
    """Raises DataError if a reply of these pairs has no score in the data."""
    scores = batch.replies.score
    if bool((scores[better] + scores[worse]).isnan().any()):
        raise DataError(
            "objective.margin_scale needs a score for every ranked reply, and some have none",
            where=f"examples {', '.join(map(str, batch.examples[:8]))}",
            advice="set margin_scale to 0, or use data with scores",
        )
