"""Proximal policy optimisation (Schulman et al. 2017) on sampled replies: what was true when they were written is stored."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from tunesmith.batch.protocols import BlockwiseGradient, GradientHint, LogProbabilities, Loss, MicroBatch
from tunesmith.objectives.advantages import kl_quadratic


class ActorCritic(Protocol):
    """A policy with a value function, as this objective sees it."""

    def actor_critic(self, batch: Any, expected_gradient: GradientHint = None) -> tuple[LogProbabilities, Tensor]:
        """The log-probabilities of the targets, and the values float32 [N] of the tokens that they are predicted from.

        expected_gradient: as of ``Scorer.log_probabilities``.
        """
        ...


def clipped_policy_losses(
    log_probability: Tensor, old_log_probability: Tensor, advantage: Tensor, clip: float
) -> tuple[Tensor, Tensor]:
    """(losses [N], bool [N] where the clip binds): max(-A r, -A clip(r, 1 - clip, 1 + clip)), r = p / p_old (equation 7)."""
    ratio = (log_probability - old_log_probability).exp()
    free, bound = -advantage * ratio, -advantage * ratio.clamp(1.0 - clip, 1.0 + clip)
    return torch.maximum(free, bound), bound > free


def clipped_value_losses(value: Tensor, old_value: Tensor, returns: Tensor, clip: float) -> tuple[Tensor, Tensor]:
    """(losses [N], bool [N] where the clip binds): half the greater of two squared errors, that of the value and that of the
    value at most ``clip`` away from what it was."""
    near = old_value + (value - old_value).clamp(-clip, clip)
    free, bound = 0.5 * (value - returns).square(), 0.5 * (near - returns).square()
    return torch.maximum(free, bound), bound > free


@dataclass(frozen=True, slots=True, kw_only=True)
class ProximalPolicy:
    """loss = sum over tokens of (policy loss + value_weight value loss) / number of tokens, both over the whole step.

    The batch's columns, [N] each: ``old_log_probability`` and ``old_value`` of the policy that wrote the replies,
    ``advantage``, ``return``, and ``reference``, the log-probability under the reference. They were stored when the replies
    were written, so the ratio is 1 in the first step on a rollout only. value_clip: None for no clip.
    """

    clip: float = 0.2
    value_clip: float | None = 0.2
    value_weight: float = 0.1

    @property
    def metrics(self) -> tuple[str, ...]:
        """Means over tokens. ``clipped``, ``value_clipped``: shares where the clip binds. ``kl``: KL(old policy || policy),
        ``reference_kl``: KL(policy || reference), both estimated by k3. ``value_error``: (value - return)^2."""
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
        """The number of tokens that were written by the policy."""
        return float(batch.targets)

    def __call__(self, policy: ActorCritic, batch: MicroBatch, units: float) -> Loss:
        columns = {name: values.double() for name, values in batch.columns.items()}
        found, values = policy.actor_critic(batch, expected_gradient=self._foretold(batch, columns, units))
        own, value, returns = found.log_probability.double(), values.double(), columns["return"]
        old, value_clip = columns["old_log_probability"], math.inf if self.value_clip is None else self.value_clip
        policy_loss, clipped = clipped_policy_losses(own, old, columns["advantage"], self.clip)
        value_loss, value_clipped = clipped_value_losses(value, columns["old_value"], returns, value_clip)
        loss = policy_loss + self.value_weight * value_loss
        now = own.detach()
        measured = {
            "loss": loss,
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "ratio": (now - old).exp(),
            "clipped": clipped,
            "value_clipped": value_clipped,
            "kl": kl_quadratic(old - now),
            "reference_kl": kl_quadratic(now - columns["reference"]),
            "value": value,
            "value_error": (value - returns).square(),
            "return": returns,
        }
        return Loss(loss.sum() / units, {name: values.detach().double().sum() for name, values in measured.items()})

    def _foretold(self, batch: MicroBatch, columns: Mapping[str, Tensor], units: float) -> BlockwiseGradient:
        """The gradient of a token depends on its own log-probability alone. It is found by the same arithmetic that the
        loss goes through, so that it is the same to the bit."""

        def gradient(log_probability: Tensor) -> Tensor:
            with torch.enable_grad():
                own = log_probability.detach().requires_grad_()
                old, advantage = columns["old_log_probability"], columns["advantage"]
                losses, _ = clipped_policy_losses(own.double(), old, advantage, self.clip)
                (found,) = torch.autograd.grad(losses.sum() / units, own)
            return found

        return BlockwiseGradient(torch.arange(batch.targets, device=batch.target.device), gradient)
