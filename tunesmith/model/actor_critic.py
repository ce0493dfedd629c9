"""A policy with a value function, which reads the hidden states of the policy or of a separate network."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tunesmith.batch.packed import PackedBatch
from tunesmith.batch.protocols import GradientHint, LogProbabilities, StatisticsGradient
from tunesmith.model.backbone import Backbone, LayoutKind
from tunesmith.model.body import body_of
from tunesmith.model.divided_copy import copy_divided
from tunesmith.model.policy import Policy
from tunesmith.model.wrapper import ModelWrapper

VALUE = "value."


class ValueFunction:
    """One number for a token: the return that is expected from there to the end of its reply.

    head: from D hidden units to one number, in float32.
    backbone: the network whose last hidden states the head reads; None for those of the policy.
    module: all tensors that belong to the value function only, for a checkpoint.
    """

    def __init__(self, head: nn.Linear, backbone: Backbone | None = None) -> None:
        assert head.weight.shape[0] == 1, head
        self.head, self.backbone = head, backbone
        self.module = nn.ModuleDict({"head": head})
        if backbone is not None:
            self.module["backbone"] = body_of(backbone.model)

    def values_of_hidden(self, hidden: Tensor, where: Tensor) -> Tensor:
        """float32 [K], the values at some tokens.

        hidden: [T, D], last hidden states.
        where: int64 [K], indices of the tokens.
        """
        states = hidden.index_select(0, where).float()
        return nn.functional.linear(states, self.head.weight, self.head.bias)[:, 0]

    def parameters(self) -> dict[str, nn.Parameter]:
        """Trainable parameters by name."""
        return {name: value for name, value in self.module.named_parameters() if value.requires_grad}


def value_head(model: PreTrainedModel) -> nn.Linear:
    """A new head [1, D] on the hidden units of ``model``, all zeros: at first every value is 0."""
    head = nn.Linear(int(model.config.get_text_config().hidden_size), 1, device=model.device, dtype=torch.float32)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


def backbone_like(policy: Policy) -> Backbone:
    """A copy of the backbone of a policy with its present weights, in the same layout, without dropout.

    Frozen weights are not copied: with adapters both have one base and separate adapters. The copy of a divided
    backbone is divided alike.
    """
    if policy.sharded is not None:
        opened = copy_divided(policy.model, policy.sharded, body_of)
        return Backbone(opened.model, compute=policy.compute, layout=policy.layout, sharded=opened.root)
    original = body_of(policy.model)
    frozen = {id(parameter): parameter for parameter in original.parameters() if not parameter.requires_grad}
    body = copy.deepcopy(original, dict(frozen))
    assert isinstance(body, PreTrainedModel), type(body)
    return Backbone(body, compute=policy.compute, layout=policy.layout)


class ActorCritic(ModelWrapper):
    """The model that PPO trains: a policy and its value function with one set of parameters.

    The parameters of the policy keep their names; those of the value function are prefixed with ``value.``.
    The attribute ``model`` is that of the policy: it generates replies and is exported.
    """

    def __init__(self, policy: Policy, value: ValueFunction) -> None:
        super().__init__(policy.model, compute=policy.compute, dropout=policy.dropout)
        self.policy, self.value = policy, value

    @property
    def layout(self) -> LayoutKind:
        """The layout in which the policy reads batches."""
        return self.policy.layout

    def parameters(self) -> dict[str, nn.Parameter]:
        """Trainable parameters of policy and value function by name; tied ones once."""
        return super().parameters() | {f"{VALUE}{name}": each for name, each in self.value.parameters().items()}

    def networks(self) -> Sequence[ModelWrapper]:
        """Policy and separate network of the value function; the head of the value function stays whole."""
        return [self.policy] if self.value.backbone is None else [self.policy, self.value.backbone]

    def generating(self) -> AbstractContextManager[object]:
        """A context in which this process has all weights of the policy, which writes replies."""
        return self.policy.gathered()

    def train(self) -> None:
        """Training mode of policy and value function."""
        super().train()
        if self.value.backbone is not None:
            self.value.backbone.train()

    def eval(self) -> None:
        """Evaluation mode of policy and value function: no noise of any kind."""
        super().eval()
        if self.value.backbone is not None:
            self.value.backbone.eval()

    def log_probabilities(
        self,
        batch: PackedBatch,
        gradient_hint: GradientHint = None,
        *,
        statistics_gradient: StatisticsGradient | None = None,
    ) -> LogProbabilities:
        """Of the policy alone; see ``Policy.log_probabilities``."""
        return self.policy.log_probabilities(batch, gradient_hint, statistics_gradient=statistics_gradient)

    def actor_critic(self, batch: PackedBatch, gradient_hint: GradientHint = None) -> tuple[LogProbabilities, Tensor]:
        """The log-probabilities of the N targets, and float32 [N], the values of the states before them.

        gradient_hint: see ``Policy.log_probabilities``.
        """
        hidden, found = self.policy.hidden_and_log_probabilities(batch, gradient_hint)
        states = hidden if self.value.backbone is None else self.value.backbone.hidden(batch)
        return found, self.value.values_of_hidden(states, batch.source)
