"""A small policy with a value function, a reference and a known reward, for tests of rollouts."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Literal

import torch

from tunesmith.batch.packed import PackedBatch
from tunesmith.generate.requests import StoppingCriteria
from tunesmith.generate.sampling import SamplingParameters
from tunesmith.generate.slot_rows import SlotRows
from tunesmith.model.actor_critic import ActorCritic, ValueFunction, backbone_like, value_head
from tunesmith.model.load import new_model
from tunesmith.model.policy import Policy
from tunesmith.train.rollout.generator import AdvantageSettings, RewardSource, RolloutGenerator, RolloutSampling
from tunesmith.train.rollout.rollouts import PromptReplies

VOCABULARY, STOPS = 24, (1, 2)
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
}
PROMPTS = tuple(tuple(3 + (7 * number + k) % 20 for k in range(2 + number % 5)) for number in range(12))


def actor_critic(
    family: str = "llama", value: Literal["shared", "separate"] = "separate", temperature: float = 1.0
) -> ActorCritic:
    """The same weights at every call; the head of the value function is not zero."""
    policy = Policy(new_model({"architecture": family, **SIZES}, VOCABULARY, 3), temperature=temperature)
    head = value_head(policy.model)
    with torch.no_grad():
        head.weight.copy_(torch.linspace(-0.1, 0.1, head.weight.numel())[None])
    return ActorCritic(policy, ValueFunction(head, backbone_like(policy) if value == "separate" else None))


def frozen(actor: ActorCritic) -> Policy:
    """A copy of the policy with its present weights."""
    return Policy(copy.deepcopy(actor.model), temperature=actor.policy.temperature)


def low_tokens(batch: PackedBatch, answered: Sequence[PromptReplies]) -> torch.Tensor:
    """The share of a reply's tokens below 12."""
    replies = [reply.ids for each in answered for reply in each.replies]
    return torch.tensor([sum(token < 12 for token in ids) / len(ids) for ids in replies])


LOW = RewardSource("low", low_tokens, scale=2.0, offset=-0.5)


def generator(
    actor: ActorCritic,
    *,
    samples: int = 3,
    advantages: AdvantageSettings | None = None,
    tokens: int = 200,
    rewards: Sequence[RewardSource] = (LOW,),
    reference: Any = None,
    batch_size: int = 8,
    length: int = 10,
) -> RolloutGenerator:
    sampling = RolloutSampling(
        lambda rows: SlotRows(actor.model, rows),
        SamplingParameters(temperature=actor.policy.temperature, max_new_tokens=length),
        StoppingCriteria(STOPS, VOCABULARY, SIZES["max_position_embeddings"]),
        samples,
        7,
        batch_size,
    )
    reference = frozen(actor) if reference is None else reference
    return RolloutGenerator(
        actor, reference, rewards, lambda number: PROMPTS[number], sampling, advantages or AdvantageSettings(), tokens
    )
