"""The policy: a stock causal model that computes the log-probabilities of the targets of a packed batch."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tunesmith.batch.packed import PackedBatch
from tunesmith.batch.protocols import GradientHint, LogProbabilities, StatisticsGradient
from tunesmith.model.adapters import head_weight
from tunesmith.model.backbone import Backbone, LayoutKind
from tunesmith.model.dropout import ResidualDropout
from tunesmith.model.head import target_log_probabilities
from tunesmith.model.logit_statistics import target_statistics
from tunesmith.model.logits import LogitRule, measure_logit_rule
from tunesmith.model.shard import ShardedModel
from tunesmith.model.shared_states import shared_log_probabilities
from tunesmith.model.wrapper import forward_pass

__all__ = ["LayoutKind", "Policy"]


class Policy(Backbone):
    """A backbone with a head over the vocabulary.

    model, compute, layout, dropout, sharded: see ``Backbone``.
    temperature: logits are divided by it, as in sampling.
    rule: how logits follow from the product with the head; None: it is measured, for which weights in float32 are
        needed.
    Raises RecipeError for a model whose logits cannot be computed from its head (``model.logits``).
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        compute: torch.dtype = torch.float32,
        layout: LayoutKind = "tree",
        dropout: ResidualDropout | None = None,
        temperature: float = 1.0,
        rule: LogitRule | None = None,
        sharded: ShardedModel | None = None,
    ) -> None:
        super().__init__(model, compute=compute, layout=layout, dropout=dropout, sharded=sharded)
        self.temperature = temperature
        self._head: nn.Linear = model.get_output_embeddings()  # type: ignore[no-untyped-call]
        self.rule = self._measure_rule() if rule is None else rule

    def on_model(self, model: PreTrainedModel, sharded: ShardedModel | None, temperature: float) -> Policy:
        """A policy with another model of the same architecture, computed in the same way, without dropout.

        sharded: of a divided model; None for a whole one.
        """
        return Policy(
            model,
            compute=self.compute,
            layout=self.layout,
            temperature=temperature,
            rule=self.rule,
            sharded=sharded,
        )

    def _measure_rule(self) -> LogitRule:
        """How logits follow from the product with the head, measured with weights in float32."""
        if self.sharded is None:
            return measure_logit_rule(self.model)
        with torch.no_grad():
            return self.sharded.run(lambda: measure_logit_rule(self.model), torch.float32)

    @forward_pass
    def log_probabilities(
        self,
        batch: PackedBatch,
        gradient_hint: GradientHint = None,
        *,
        statistics_gradient: StatisticsGradient | None = None,
    ) -> LogProbabilities:
        """The log-probabilities of the N targets of a batch; only hidden states at its sources are projected.

        gradient_hint: the gradient of the loss with respect to the log-probabilities, float32 [N], or how to compute
            it, where the objective knows it beforehand. It saves time and never changes the result (see
            ``model.head``).
        statistics_gradient: given, ``LogProbabilities.statistics`` is computed too. The gradient that it returns is a
            hint of the same kind.
        """
        return self.log_probabilities_of_hidden(
            self.hidden(batch), batch, gradient_hint, statistics_gradient=statistics_gradient
        )

    def log_probabilities_of_hidden(
        self,
        hidden: Tensor,
        batch: PackedBatch,
        gradient_hint: GradientHint = None,
        *,
        statistics_gradient: StatisticsGradient | None = None,
    ) -> LogProbabilities:
        """As ``log_probabilities``, from last hidden states [T, D] of the batch."""
        states, bias, cap = self._head_inputs(hidden.index_select(0, batch.source))
        weight, target = head_weight(self._head), batch.target
        if statistics_gradient is not None:
            return target_statistics(states, weight, bias, target, statistics_gradient, cap=cap)
        return LogProbabilities(*target_log_probabilities(states, weight, bias, target, gradient_hint, cap=cap))

    @forward_pass
    def hidden_and_log_probabilities(
        self, batch: PackedBatch, gradient_hint: GradientHint = None
    ) -> tuple[Tensor, LogProbabilities]:
        """Last hidden states of all tokens, [T, D], and ``log_probabilities`` of them."""
        hidden = self.hidden(batch)
        return hidden, self.log_probabilities_of_hidden(hidden, batch, gradient_hint)

    @torch.no_grad()
    @forward_pass
    def shared_log_probabilities(self, batch: PackedBatch) -> LogProbabilities:
        """As ``log_probabilities``, without gradients: a state that predicts several targets is projected once."""
        source, state = torch.unique(batch.source, return_inverse=True)
        states, bias, cap = self._head_inputs(self.hidden(batch).index_select(0, source))
        weight = head_weight(self._head)
        return LogProbabilities(*shared_log_probabilities(states, weight, bias, state, batch.target, cap=cap))

    def _head_inputs(self, states: Tensor) -> tuple[Tensor, Tensor | None, float | None]:
        """(states, bias of the head, cap of the logits), with all factors of the logits."""
        states, bias = states.to(self.compute), cast(Tensor | None, self._head.bias)
        # A factor of all logits is one of the states and of the bias. The cap is divided by the temperature, because
        # cap * tanh(x / cap) / temperature = (cap / temperature) * tanh((x / temperature) / (cap / temperature)).
        rule, cap = self.rule, self.rule.cap
        if rule.states_factor != 1.0:
            states = states * rule.states_factor
        if rule.factor != 1.0:
            states, bias = states * rule.factor, None if bias is None else bias * rule.factor
        if self.temperature != 1.0:
            states, bias = states / self.temperature, None if bias is None else bias / self.temperature
            cap = None if cap is None else cap / self.temperature
        return states, bias, cap
