"""The base of an adapted policy: the same model with its adapters switched off."""

from __future__ import annotations

import torch

from tunesmith.batch.packed import PackedBatch
from tunesmith.batch.protocols import GradientHint, LogProbabilities, StatisticsGradient
from tunesmith.model.adapters import adapters_off
from tunesmith.model.policy import Policy


class BasePolicy(Policy):
    """A policy whose adapters are off while it computes; without gradients, since its weights are never trained."""

    @torch.no_grad()
    def log_probabilities(
        self,
        batch: PackedBatch,
        gradient_hint: GradientHint = None,
        *,
        statistics_gradient: StatisticsGradient | None = None,
    ) -> LogProbabilities:
        """See ``Policy.log_probabilities``; there is no gradient, so that hints have no effect."""
        with adapters_off(self.model):
            return super().log_probabilities(batch, gradient_hint, statistics_gradient=statistics_gradient)

    @torch.no_grad()
    def shared_log_probabilities(self, batch: PackedBatch) -> LogProbabilities:
        """See ``Policy.shared_log_probabilities``."""
        with adapters_off(self.model):
            return super().shared_log_probabilities(batch)
