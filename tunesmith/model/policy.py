"""The policy: a stock causal model that answers with the log-probabilities of what is trained, and nothing else."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tunesmith.batch.packed import Batch
from tunesmith.batch.protocols import GradientHint, LogProbabilities, StatisticsGradient
from tunesmith.model.backbone import Backbone, LayoutKind
from tunesmith.model.dropout import ResidualDropout
from tunesmith.model.head import target_log_probabilities
from tunesmith.model.logit_statistics import target_statistics

__all__ = ["LayoutKind", "Policy"]


class Policy:
    """A trunk with a head over the vocabulary. temperature: logits are divided by it, as sampling does.

    model, compute, layout, dropout: see ``model.trunk.Backbone``.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        compute: torch.dtype = torch.float32,
        layout: LayoutKind = "tree",
        dropout: ResidualDropout | None = None,
        temperature: float = 1.0,
    ) -> None:
        self.model, self.temperature = model, temperature
        self.backbone = Backbone(model, compute=compute, layout=layout, dropout=dropout)
        self._head: nn.Linear = model.get_output_embeddings()  # type: ignore[no-untyped-call]

    @property
    def device(self) -> torch.device:
        return self._head.weight.device

    @property
    def compute(self) -> torch.dtype:
        return self.backbone.compute

    @property
    def layout(self) -> LayoutKind:
        return self.backbone.layout

    def parameters(self) -> dict[str, nn.Parameter]:
        """Trainable parameters by name; tied ones once."""
        return self.backbone.parameters()

    def train(self) -> None:
        self.backbone.train()

    def eval(self) -> None:
        """Evaluation mode: no noise of any kind."""
        self.backbone.eval()

    def log_probabilities(
        self, batch: Batch, expected_gradient: GradientHint = None, *, statistics: StatisticsGradient | None = None
    ) -> LogProbabilities:
        """The vocabulary is projected at the batch's sources only.

        expected_gradient: the gradient of the loss with respect to the log-probabilities where the objective knows it, or a way
        to it, beforehand; a hint that saves time and never changes the result (see ``model.head``).
        spread: give ``LogProbabilities.spread`` too; what it says of the gradient is such a hint as well.
        """
        return self.of_hidden(self.backbone.hidden(batch), batch, expected_gradient, statistics=statistics)

    def of_hidden(
        self,
        hidden: Tensor,
        batch: Batch,
        expected_gradient: GradientHint = None,
        *,
        statistics: StatisticsGradient | None = None,
    ) -> LogProbabilities:
        """The same where the last hidden states [T, D] are known already."""
        states, bias = hidden.index_select(0, batch.source).to(self.compute), cast(Tensor | None, self._head.bias)
        if self.temperature != 1.0:
            states, bias = states / self.temperature, None if bias is None else bias / self.temperature
        if statistics is not None:
            return target_statistics(states, self._head.weight, bias, batch.target, statistics)
        found = target_log_probabilities(states, self._head.weight, bias, batch.target, expected_gradient)
        return LogProbabilities(*found)

    def autocast(self) -> AbstractContextManager[None]:
        """The number format of the forward pass."""
        return self.backbone.autocast()

    def with_layout(self, layout: LayoutKind) -> Policy:
        """The same model read in another way."""
        return Policy(
            self.model,
            compute=self.compute,
            layout=layout,
            dropout=self.backbone.dropout,
            temperature=self.temperature,
        )
