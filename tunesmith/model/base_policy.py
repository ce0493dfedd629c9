"""The base of an adapted policy: the same model with its adapters switched off."""

from __future__ import annotations

import torch

from tunesmith.batch.packed import PackedBatch
from tunesmith.batch.protocols import LogProbabilities
from tunesmith.model.adapters import adapters_off
from tunesmith.model.policy import Policy


class BasePolicy:
    """What a policy was before its adapters were trained, for references: without gradients.

    policy: computes with its adapters off while it is asked here.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    @torch.no_grad()
    def log_probabilities(self, batch: PackedBatch) -> LogProbabilities:
        """See ``Policy.log_probabilities``."""
        with adapters_off(self.policy.model):
            return self.policy.log_probabilities(batch)
