"""The losses of the DPO family as functions of numbers that each pair has; no batch, no model.

Every loss is a function of one logit, how much the policy prefers the better reply of a pair:

    h = (log pi(better) - log pi(worse)) - (log rho(better) - log rho(worse))      pi: policy, rho: reference
    logit = beta h - target_margin - margin_scale (score(better) - score(worse))

Without a reference (SimPO) rho is 1. All functions keep the precision of their arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

PreferenceLoss = Literal["sigmoid", "hinge", "ipo"]


def log_ratios(
    better: Tensor, worse: Tensor, reference_better: Tensor | None = None, reference_worse: Tensor | None = None
) -> Tensor:
    """[P] h of every pair, from its log-probabilities: sums over a reply's targets, or their means in the normalised losses."""
    ratios = better - worse
    if reference_better is None or reference_worse is None:
        return ratios
    return ratios - (reference_better - reference_worse)


def implicit_rewards(log_probability: Tensor, reference: Tensor | None, beta: float) -> Tensor:
    """[R] beta (log pi - log rho) of every reply: the reward whose best policy is pi (Rafailov et al. 2023, section 4)."""
    return beta * (log_probability if reference is None else log_probability - reference)


def sigmoid_loss(logit: Tensor, beta: float) -> Tensor:
    """[P] - log sigma(logit): DPO (Rafailov et al. 2023, equation 7)."""
    return -functional.logsigmoid(logit)


def hinge_loss(logit: Tensor, beta: float) -> Tensor:
    """[P] max(0, 1 - logit): SLiC-HF (Zhao et al. 2023) with the margin in units of beta h."""
    return torch.relu(1.0 - logit)


def ipo_loss(logit: Tensor, beta: float) -> Tensor:
    """[P] (h - 1/(2 beta))^2: IPO (Azar et al. 2023, equation 17); h here is logit / beta, so margins shift it as elsewhere."""
    return ((logit - 0.5) / beta).square()


LOSSES: dict[PreferenceLoss, Callable[[Tensor, float], Tensor]] = {
    "sigmoid": sigmoid_loss,
    "hinge": hinge_loss,
    "ipo": ipo_loss,
}


def pair_losses(logit: Tensor, loss: PreferenceLoss, *, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """[P] (1 - label_smoothing) loss(logit) + label_smoothing loss(-logit): the loss expected if that share of the labels
    is the wrong way round (conservative DPO, Mitchell 2023)."""
    as_labelled = LOSSES[loss](logit, beta)
    if not label_smoothing:
        return as_labelled
    return (1.0 - label_smoothing) * as_labelled + label_smoothing * LOSSES[loss](-logit, beta)


def policy_weights(better_mean: Tensor, worse_mean: Tensor) -> Tensor:
    """[P] the geometric mean of the token probabilities of a pair's replies under the policy, of both multiplied; at most 1.

    WPO (Zhou et al. 2024, equation 3, without alignment of the weights): pairs that the policy would hardly write count less.
    The weights are numbers, no gradient flows through them. better_mean, worse_mean: [P] mean log-probability of a target.
    """
    return (better_mean + worse_mean).detach().exp().clamp(max=1.0)
