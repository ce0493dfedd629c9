"""From the rewards of sampled replies to advantages: KL penalty, generalised advantage estimation, whitening, KL control.

Everything here is computed once per rollout, before the first optimizer step on it. [N] are all tokens of all replies,
``owner`` says which reply a token belongs to; the tokens of one reply stand in their order.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def kl_difference(log_ratio: Tensor) -> Tensor:
    """k1 of KL(p || q) from tokens drawn from p, with log_ratio = log p - log q: without bias, of either sign."""
    return log_ratio


def kl_quadratic(log_ratio: Tensor) -> Tensor:
    """k3 of KL(p || q) from tokens drawn from p, with log_ratio = log p - log q: without bias, never negative, of less
    variance than k1 where p and q are near each other (Schulman 2020, Approximating KL Divergence)."""
    return torch.expm1(-log_ratio) + log_ratio


def adaptive_kl(coefficient: float, kl: float, *, target: float, steps: int, horizon: float) -> float:
    """The next coefficient of the KL penalty, after ``steps`` replies with a mean KL of ``kl`` (Ziegler et al. 2019, section
    2.2): the relative error, at most 0.2 either way, moves it by the share ``steps / horizon``."""
    error = min(max(kl / target - 1.0, -0.2), 0.2)
    return coefficient * (1.0 + error * steps / horizon)


def token_rewards(
    log_probability: Tensor, reference: Tensor, owner: Tensor, scores: Tensor, kl_coefficient: float
) -> Tensor:
    """[N] - kl_coefficient (log pi - log rho) at every token, and at the last token of a reply its score, too.

    log_probability, reference: [N], of the policy that wrote the replies and of the reference. scores: [R].
    """
    rewards = -kl_coefficient * kl_difference(log_probability - reference)
    order, starts, lengths = _by_reply(owner, len(scores))
    last = order[(starts + lengths - 1)[lengths > 0]]
    return rewards.index_add(0, last, scores[lengths > 0].to(rewards.dtype))


def generalized_advantages(
    rewards: Tensor, values: Tensor, *, discount: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """(advantages, returns), [..., T] each, of episodes that end after T tokens (Schulman et al. 2016, equation 16).

    values: [..., T], v_t is predicted before token t is written. returns = advantages + values. An episode that ends
    sooner has 0 in both from there on.
    """
    advantages = torch.zeros_like(rewards)
    next_value = next_advantage = torch.zeros_like(rewards[..., 0])
    for time in reversed(range(rewards.shape[-1])):
        surprise = rewards[..., time] + discount * next_value - values[..., time]
        next_advantage = surprise + discount * gae_lambda * next_advantage
        next_value = values[..., time]
        advantages[..., time] = next_advantage
    return advantages, advantages + values


def reply_advantages(
    rewards: Tensor, values: Tensor, owner: Tensor, *, discount: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """``generalized_advantages`` of every reply, from flat lists to flat lists, [N] each. owner: int64 [N]."""
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
    """(the tokens reply by reply [N], where each reply begins among them [R], how many it has [R])."""
    lengths = torch.bincount(owner, minlength=replies)
    return owner.argsort(stable=True), lengths.cumsum(0) - lengths, lengths


def whiten(values: Tensor, mask: Tensor | None = None, *, shift_mean: bool = True, epsilon: float = 1e-6) -> Tensor:
    """``values`` with a standard deviation of 1, and a mean of 0 unless ``shift_mean`` is false, when it stays.

    The variance is that of a sample (divided by one less than their number). mask: where to measure it, default
    everywhere; every value is changed. epsilon: added to the variance.
    """
    counted = torch.ones_like(values) if mask is None else mask.to(values.dtype)
    number = counted.sum()
    mean = (counted * values).sum() / number
    variance = (counted * (values - mean).square()).sum() / (number - 1.0).clamp(min=1.0)
    whitened = (values - mean) * torch.rsqrt(variance + epsilon)
    return whitened if shift_mean else whitened + mean


@dataclass(frozen=True, slots=True)
class Moments:
    """Number, mean and sum of squared deviations of everything seen, for rewards on a running scale (Chan et al. 1979)."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    @property
    def deviation(self) -> float:
        """The standard deviation of a sample; 1 while there are fewer than two values."""
        return float((self.squares / (self.count - 1)) ** 0.5) if self.count > 1 else 1.0

    def joined(self, values: Tensor) -> Moments:
        """These and the values of another batch together."""
        count = self.count + values.numel()
        if not values.numel():
            return self
        own = values.detach().double()
        mean = float(own.mean())
        squares = float((own - mean).square().sum())
        shift = mean - self.mean
        return Moments(
            count,
            self.mean + shift * values.numel() / count,
            self.squares + squares + shift * shift * self.count * values.numel() / count,
        )
