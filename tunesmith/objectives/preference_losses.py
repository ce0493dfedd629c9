"""The losses of the DPO family as functions of the numbers of each preference pair; without batch and model.

Every loss is a function of one logit, which says how much the policy prefers the chosen reply of a pair:

    h = (log pi(chosen) - log pi(rejected)) - (log ref(chosen) - log ref(rejected))      pi: policy, ref: reference
    logit = beta h - target_margin - margin_scale (score(chosen) - score(rejected))

Without a reference (SimPO, Meng et al. 2024) ref is 1. All functions keep the number format of their arguments.
Shapes: R replies, P preference pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

PreferenceLoss = Literal["sigmoid", "hinge", "ipo"]


def log_ratios(
    chosen: Tensor, rejected: Tensor, reference_chosen: Tensor | None = None, reference_rejected: Tensor | None = None
) -> Tensor:
    """[P], h of every pair.

    chosen, rejected: [P], log-probabilities of the replies under the policy: sums over targets, or means in the
        length-normalised losses.
    reference_chosen, reference_rejected: [P], the same under the reference; None without a reference.
    """
    ratios = chosen - rejected
    if reference_chosen is None or reference_rejected is None:
        return ratios
    return ratios - (reference_chosen - reference_rejected)


def implicit_rewards(log_probability: Tensor, reference: Tensor | None, beta: float) -> Tensor:
    """[R], beta (log pi - log ref): the reward whose optimal policy is pi (Rafailov et al. 2023, section 4).

    log_probability: [R], of each reply under the policy.
    reference: [R], under the reference; None without a reference.
    """
    return beta * (log_probability if reference is None else log_probability - reference)


def sigmoid_loss(logit: Tensor, beta: float) -> Tensor:
    """[P], - log sigmoid(logit): DPO (Rafailov et al. 2023, equation 7). logit: [P]."""
    return -functional.logsigmoid(logit)


def hinge_loss(logit: Tensor, beta: float) -> Tensor:
    """[P], max(0, 1 - logit): SLiC-HF (Zhao et al. 2023) with its margin in units of beta h. logit: [P]."""
    return torch.relu(1.0 - logit)


def ipo_loss(logit: Tensor, beta: float) -> Tensor:
    """[P], (h - 1 / (2 beta))^2: IPO (Azar et al. 2023, equation 17).

    logit: [P]. h is logit / beta here, so that margins shift it as in the other losses.
    """
    return ((logit - 0.5) / beta).square()


LOSSES: dict[PreferenceLoss, Callable[[Tensor, float], Tensor]] = {
    "sigmoid": sigmoid_loss,
    "hinge": hinge_loss,
    "ipo": ipo_loss,
}


def preference_losses(logit: Tensor, loss: PreferenceLoss, *, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """[P], (1 - label_smoothing) loss(logit) + label_smoothing loss(-logit).

    It is the expected loss if that share of the labels is wrong (conservative DPO, Mitchell 2023).
    logit: [P].
    """
    as_labelled = LOSSES[loss](logit, beta)
    if not label_smoothing:
        return as_labelled
    return (1.0 - label_smoothing) * as_labelled + label_smoothing * LOSSES[loss](-logit, beta)


def policy_weights(chosen_mean: Tensor, rejected_mean: Tensor) -> Tensor:
    """[P], the weights of WPO without alignment (Zhou et al. 2024, equation 3), at most 1.

    A weight is the product of the geometric means of the token probabilities of both replies under the policy, so
    pairs that the policy would hardly generate count less. No gradient flows through it.
    chosen_mean, rejected_mean: [P], mean log-probability of a target of the reply.
    """
    return (chosen_mean + rejected_mean).detach().exp().clamp(max=1.0)
