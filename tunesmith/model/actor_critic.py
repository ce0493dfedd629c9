"""A policy with a value function: on the policy's own trunk, or a network of its own."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tunesmith.batch.packed import Batch
from tunesmith.batch.protocols import GradientHint, LogProbabilities, StatisticsGradient
from tunesmith.model.backbone import Backbone, LayoutKind
from tunesmith.model.policy import Policy

VALUE = "value."


class ValueFunction:
    """One number for a token: what the rest of its reply is expected to earn.

    head: from D hidden units to one number, in float32. trunk: whose last hidden states the head reads; None: those of the
    policy. module: all that it has of its own, for a checkpoint.
    """

    def __init__(self, head: nn.Linear, backbone: Backbone | None = None) -> None:
        assert head.weight.shape[0] == 1, head
        self.head, self.backbone = head, backbone
        self.module = nn.ModuleDict({"head": head})
        if backbone is not None:
            self.module["trunk"] = backbone.model.base_model

    def of_hidden(self, hidden: Tensor, where: Tensor) -> Tensor:
        """float32 [K], the values at the tokens ``where`` (int64 [K]) of last hidden states [T, D]."""
        states = hidden.index_select(0, where).float()
        return nn.functional.linear(states, self.head.weight, self.head.bias)[:, 0]

    def parameters(self) -> dict[str, nn.Parameter]:
        """Trainable parameters by name."""
        return {name: value for name, value in self.module.named_parameters() if value.requires_grad}


def value_head(model: PreTrainedModel) -> nn.Linear:
    """A new head on the hidden units of ``model``, all zeros: the first values are 0 whatever is read."""
    head = nn.Linear(int(model.config.get_text_config().hidden_size), 1, device=model.device, dtype=torch.float32)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


def backbone_like(policy: Policy) -> Backbone:
    """A copy of a policy's trunk with the present weights, read in the same way, without noise."""
    body = copy.deepcopy(policy.model.base_model)
    assert isinstance(body, PreTrainedModel), type(body)
    return Backbone(body, compute=policy.compute, layout=policy.layout)


class ActorCritic:
    """What PPO trains: a policy and its value function, as one learner with one set of parameters.

    The policy's parameters keep their names, those of the value function have ``value.`` in front.
    """

    def __init__(self, policy: Policy, value: ValueFunction) -> None:
        self.policy, self.value = policy, value

    @property
    def model(self) -> PreTrainedModel:
        """The policy's: what writes replies and is exported."""
        return self.policy.model

    @property
    def backbone(self) -> Backbone:
        return self.policy.backbone

    @property
    def device(self) -> torch.device:
        return self.policy.device

    @property
    def compute(self) -> torch.dtype:
        return self.policy.compute

    @property
    def layout(self) -> LayoutKind:
        return self.policy.layout

    def parameters(self) -> dict[str, nn.Parameter]:
        """Trainable parameters of both by name; tied ones once."""
        return self.policy.parameters() | {f"{VALUE}{name}": each for name, each in self.value.parameters().items()}

    def train(self) -> None:
        self.policy.train()
        if self.value.backbone is not None:
            self.value.backbone.train()

    def eval(self) -> None:
        """Evaluation mode: no noise of any kind."""
        self.policy.eval()
        if self.value.backbone is not None:
            self.value.backbone.eval()

    def autocast(self) -> AbstractContextManager[None]:
        """The number format of the policy's forward pass."""
        return self.policy.autocast()

    def log_probabilities(
        self, batch: Batch, expected_gradient: GradientHint = None, *, statistics: StatisticsGradient | None = None
    ) -> LogProbabilities:
        """Of the policy alone; see ``Policy.log_probabilities``."""
        return self.policy.log_probabilities(batch, expected_gradient, statistics=statistics)

    def actor_critic(self, batch: Batch, expected_gradient: GradientHint = None) -> tuple[LogProbabilities, Tensor]:
        """Log-probabilities of the targets, and float32 [N] the values of the tokens that they are predicted from.

        expected_gradient: see ``Policy.log_probabilities``.
        """
        hidden = self.policy.backbone.hidden(batch)
        found = self.policy.of_hidden(hidden, batch, expected_gradient)
        states = hidden if self.value.backbone is None else self.value.backbone.hidden(batch)
        return found, self.value.of_hidden(states, batch.source)
