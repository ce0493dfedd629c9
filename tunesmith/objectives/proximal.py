"""Proximal policy optimisation (Schulman et al. 2017) on sampled replies, whose columns were stored when they were
generated.

Shapes: N targets in a batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from tunesmith.batch.columns import ADVANTAGE, OLD_LOG_PROBABILITY, OLD_VALUE, REFERENCE, RETURN
from tunesmith.batch.protocols import (
    BatchT,
    BatchT_contra,
    BlockwiseGradient,
    GradientHint,
    LogProbabilities,
    Loss,
    MicroBatch,
)
from tunesmith.objectives.advantages import kl_quadratic


class ActorCriticModel(Protocol[BatchT_contra]):
    """A policy with a value function, as this objective uses it."""

    def actor_critic(self, batch: BatchT_contra, gradient_hint: GradientHint = None) -> tuple[LogProbabilities, Tensor]:
        """The log-probabilities of the targets, and float32 [N], the values of the states before them.

        gradient_hint: as of ``LogProbabilityModel.log_probabilities``.
        """
        ...


def clipped_policy_losses(
    log_probability: Tensor, old_log_probability: Tensor, advantage: Tensor, clip: float
) -> tuple[Tensor, Tensor]:
    """max(-A r, -A clip(r, 1 - clip, 1 + clip)) with r = p / p_old (equation 7), [N], and bool [N], where the clip
    binds.

    log_probability: [N], log p under the policy.
    old_log_probability: [N], log p_old under the policy that generated the token.
    advantage: [N], A.
    """
    ratio = (log_probability - old_log_probability).exp()
    unclipped, clipped = -advantage * ratio, -advantage * ratio.clamp(1.0 - clip, 1.0 + clip)
    return torch.maximum(unclipped, clipped), clipped > unclipped


def clipped_value_losses(value: Tensor, old_value: Tensor, returns: Tensor, clip: float) -> tuple[Tensor, Tensor]:
    """max((v - R)^2, (v_old + clip(v - v_old, -clip, clip) - R)^2) / 2, [N], and bool [N], where the clip binds.

    As in OpenAI's baselines (ppo2); the clip limits how far the value moves from what it was.
    value: [N], v under the value function.
    old_value: [N], v_old when the token was generated.
    returns: [N], R.
    """
    near = old_value + (value - old_value).clamp(-clip, clip)
    unclipped, clipped = 0.5 * (value - returns).square(), 0.5 * (near - returns).square()
    return torch.maximum(unclipped, clipped), clipped > unclipped


@dataclass(frozen=True, slots=True, kw_only=True)
class ProximalPolicy:
    """loss = sum over tokens of (policy loss + value_weight value loss) / number of tokens, both over the whole step.

    The batch has the columns ``batch.columns.PPO_COLUMNS``, float32 [N] each. They were stored when the replies were
    generated, so the ratio is 1 only in the first step on a rollout.

    clip: largest distance of the ratio from 1.
    value_clip: largest distance of the value from what it was; None for no limit.
    value_weight: factor of the value loss.
    """

    clip: float = 0.2
    value_clip: float | None = 0.2
    value_weight: float = 0.1

    @property
    def metrics(self) -> tuple[str, ...]:
        """Means over tokens.

        loss, policy_loss, value_loss: the loss and its two terms; the value loss without its factor.
        ratio: p / p_old.
        clipped, value_clipped: share of tokens where the clip binds.
        kl: KL(old policy || policy), estimated by k3.
        reference_kl: KL(policy || reference), estimated by k3.
        value, return: the value and its target.
        value_error: (value - return)^2.
        """
        return (
            "loss",
            "policy_loss",
            "value_loss",
            "ratio",
            "clipped",
            "value_clipped",
            "kl",
            "reference_kl",
            "value",
            "value_error",
            "return",
        )

    def units(self, batch: MicroBatch) -> float:
        """The number of tokens that the policy generated."""
        return float(batch.targets)

    def __call__(self, policy: ActorCriticModel[BatchT], batch: BatchT, units: float) -> Loss:
        """See ``batch.protocols.Objective``."""
        columns = {name: values.double() for name, values in batch.columns.items()}
        found, values = policy.actor_critic(batch, gradient_hint=self._gradient_hint(batch, columns, units))
        log_probability, value, returns = found.log_probability.double(), values.double(), columns[RETURN]
        old = columns[OLD_LOG_PROBABILITY]
        policy_loss, clipped = clipped_policy_losses(log_probability, old, columns[ADVANTAGE], self.clip)
        value_clip = math.inf if self.value_clip is None else self.value_clip
        value_loss, value_clipped = clipped_value_losses(value, columns[OLD_VALUE], returns, value_clip)
        loss = policy_loss + self.value_weight * value_loss
        now = log_probability.detach()
        metrics = {
            "loss": loss,
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "ratio": (now - old).exp(),
            "clipped": clipped,
            "value_clipped": value_clipped,
            "kl": kl_quadratic(old - now),
            "reference_kl": kl_quadratic(now - columns[REFERENCE]),
            "value": value,
            "value_error": (value - returns).square(),
            "return": returns,
        }
        return Loss(loss.sum() / units, {name: each.detach().double().sum() for name, each in metrics.items()})

    def _gradient_hint(self, batch: MicroBatch, columns: Mapping[str, Tensor], units: float) -> BlockwiseGradient:
        """The gradient of the loss: that of a token depends on its own log-probability only.

        It is computed by the same operations as the loss, so that both are equal bit for bit.
        columns: float64 [N] by name.
        """

        def gradient(log_probability: Tensor) -> Tensor:
            with torch.enable_grad():
                leaf = log_probability.detach().requires_grad_()
                old, advantage = columns[OLD_LOG_PROBABILITY], columns[ADVANTAGE]
                losses, _ = clipped_policy_losses(leaf.double(), old, advantage, self.clip)
                (found,) = torch.autograd.grad(losses.sum() / units, leaf)
            return found

        return BlockwiseGradient(torch.arange(batch.targets), gradient)
