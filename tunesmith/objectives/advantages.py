"""From rewards of sampled replies to advantages: KL penalty, generalised advantage estimation, whitening, KL control.

Everything here is computed once per rollout, before the first optimizer step on it.
Shapes: R replies with N tokens; int64 [N] ``owner`` is the reply of each token, and the tokens of a reply are in order.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def kl_difference(log_ratio: Tensor) -> Tensor:
    """The estimator k1 of KL(p || q): unbiased, of either sign (Schulman 2020, Approximating KL Divergence).

    log_ratio: log p - log q of tokens drawn from p, any shape.
    """
    return log_ratio


def kl_quadratic(log_ratio: Tensor) -> Tensor:
    """The estimator k3 of KL(p || q): q / p - 1 - log(q / p) (Schulman 2020, Approximating KL Divergence).

    It is unbiased and never negative, and has less variance than k1 where p and q are close.
    log_ratio: log p - log q of tokens drawn from p, any shape.
    """
    return torch.expm1(-log_ratio) + log_ratio


def adaptive_kl(coefficient: float, kl: float, *, target: float, steps: int, horizon: float) -> float:
    """The next coefficient of the KL penalty (Ziegler et al. 2019, section 2.2).

    The relative error of the KL, clipped to [-0.2, 0.2], changes the coefficient in proportion to ``steps / horizon``.
    coefficient: the present one.
    kl: mean KL of the replies since the last change.
    target: the KL to reach.
    steps: number of these replies.
    horizon: number of replies over which a full correction takes place.
    """
    error = min(max(kl / target - 1.0, -0.2), 0.2)
    return coefficient * (1.0 + error * steps / horizon)


def token_rewards(
    log_probability: Tensor, reference: Tensor, owner: Tensor, scores: Tensor, kl_coefficient: float
) -> Tensor:
    """[N], the KL penalty at every token, plus the score of the reply at its last token (Ziegler et al. 2019, equation
    2).

    The penalty is - kl_coefficient (log pi - log ref).
    log_probability: [N], log pi under the policy that generated the replies.
    reference: [N], log ref under the reference.
    owner: int64 [N].
    scores: [R].
    """
    rewards = -kl_coefficient * kl_difference(log_probability - reference)
    order, starts, lengths = _by_reply(owner, len(scores))
    last = order[(starts + lengths - 1)[lengths > 0]]
    return rewards.index_add(0, last, scores[lengths > 0].to(rewards.dtype))


def generalized_advantages(
    rewards: Tensor, values: Tensor, *, discount: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """(advantages, returns), [..., T] each, of episodes that end after T tokens (Schulman et al. 2016, equation 16).

    rewards: [..., T], r_t is received after token t.
    values: [..., T], v_t is predicted before token t.
    An episode that ends earlier has 0 in both from there on. returns = advantages + values.
    """
    advantages = torch.zeros_like(rewards)
    next_value = next_advantage = torch.zeros_like(rewards[..., 0])
    for time in reversed(range(rewards.shape[-1])):
        residual = rewards[..., time] + discount * next_value - values[..., time]
        next_advantage = residual + discount * gae_lambda * next_advantage
        next_value = values[..., time]
        advantages[..., time] = next_advantage
    return advantages, advantages + values


def reply_advantages(
    rewards: Tensor, values: Tensor, owner: Tensor, *, discount: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """(advantages, returns), [N] each: ``generalized_advantages`` of every reply.

    rewards, values: [N].
    owner: int64 [N].
    """
    if not len(owner):
        return rewards.clone(), values.clone()
    replies = int(owner.max()) + 1
    order, starts, lengths = _by_reply(owner, replies)
    place = torch.empty_like(owner)
    place[order] = torch.arange(len(owner), device=owner.device) - starts[owner[order]]
    rows = rewards.new_zeros(2, replies, int(lengths.max()))
    rows[0, owner, place], rows[1, owner, place] = rewards, values
    advantages, returns = generalized_advantages(rows[0], rows[1], discount=discount, gae_lambda=gae_lambda)
    return advantages[owner, place], returns[owner, place]


def _by_reply(owner: Tensor, replies: int) -> tuple[Tensor, Tensor, Tensor]:
    """(order, starts, lengths) of the tokens reply by reply.

    order: int64 [N], indices of the tokens.
    starts: int64 [R], where the tokens of each reply begin in ``order``.
    lengths: int64 [R], tokens of each reply.
    """
    lengths = torch.bincount(owner, minlength=replies)
    return owner.argsort(stable=True), lengths.cumsum(0) - lengths, lengths


def whiten(values: Tensor, mask: Tensor | None = None, *, shift_mean: bool = True, epsilon: float = 1e-6) -> Tensor:
    """``values`` with standard deviation 1 and mean 0, in their shape.

    values: any shape; all of them are changed.
    mask: where mean and variance are computed, in the shape of ``values``; by default everywhere. The variance is that
        of a sample (divided by one less than their number).
    shift_mean: if false, the mean stays.
    epsilon: added to the variance.
    """
    counted = torch.ones_like(values) if mask is None else mask.to(values.dtype)
    number = counted.sum()
    mean = (counted * values).sum() / number
    variance = (counted * (values - mean).square()).sum() / (number - 1.0).clamp(min=1.0)
    whitened = (values - mean) * torch.rsqrt(variance + epsilon)
    return whitened if shift_mean else whitened + mean


@dataclass(frozen=True, slots=True)
class Moments:
    """Running mean and variance, for rewards on a running scale (Chan et al. 1979).

    count: number of values.
    mean: their mean.
    squares: sum of their squared deviations from the mean.
    """

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    @property
    def deviation(self) -> float:
        """The standard deviation of a sample; 1 while there are fewer than two values."""
        return float((self.squares / (self.count - 1)) ** 0.5) if self.count > 1 else 1.0

    def joined(self, values: Tensor) -> Moments:
        """The moments of these and further values together. values: any shape."""
        count = self.count + values.numel()
        if not values.numel():
            return self
        further = values.detach().double()
        mean = float(further.mean())
        squares = float((further - mean).square().sum())
        shift = mean - self.mean
        return Moments(
            count,
            self.mean + shift * values.numel() / count,
            self.squares + squares + shift * shift * self.count * values.numel() / count,
        )
