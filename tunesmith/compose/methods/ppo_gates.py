"""The gates of PPO: checks of the stored numbers of the first rollouts with the weights before the first step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch

from tunesmith.batch.columns import OLD_LOG_PROBABILITY, REFERENCE
from tunesmith.batch.packed import PackedBatch
from tunesmith.compose.proof import DEFECT
from tunesmith.model.actor_critic import ActorCritic
from tunesmith.model.policy import Policy
from tunesmith.recipe.objectives import PpoConfig
from tunesmith.report.check import Check
from tunesmith.train.rollout.plan import RolloutPosition
from tunesmith.train.rollout.rollouts import Rollouts
from tunesmith.train.rollout.steps import RolloutSteps
from tunesmith.verify.differences import largest_difference, max_or_nan
from tunesmith.verify.self_test import TOLERANCE

RATIO = "probability ratio of the first step"
STOCK = "log-probabilities of the first replies"
REFERENCE_KL = "KL to the reference before the first step"
COMPARED = 4  # replies that the stock model reads


def gates_of(actor: ActorCritic, steps: RolloutSteps, keys: PpoConfig) -> Callable[[], Sequence[Check]]:
    """The checks before the first step. They sample the replies of the first iteration, which it trains on."""

    def gates() -> Sequence[Check]:
        first = steps[0]
        rollouts = steps.rollouts(RolloutPosition(0, 0))
        actor.eval()
        batches = [batch.to(actor.device) for batch in first.batches_or_idle()]
        again = batches[-1:] * (steps.world.passes(len(batches)) - len(batches))  # of a divided model all have as many
        checks = [ratio_gate(actor, [*batches, *again]), stock_gate(actor, rollouts, keys.temperature)]
        return [*checks, reference_gate(actor, rollouts)] if keys.reference == "start" else checks

    return gates


@torch.no_grad()
def ratio_gate(actor: ActorCritic, batches: Sequence[object]) -> Check:
    """The first step computes the log-probabilities that were stored, so every ratio is 1."""
    differences = []
    for batch in batches:
        assert isinstance(batch, PackedBatch)
        found, _ = actor.actor_critic(batch)
        differences.append(largest_difference(found.log_probability, batch.columns[OLD_LOG_PROBABILITY]))
    return _gate(actor, RATIO, max_or_nan(differences), "the first step and the sampling of replies", "objective.kind")


@torch.no_grad()
def stock_gate(actor: ActorCritic, rollouts: Rollouts, temperature: float) -> Check:
    """The stored log-probabilities are those of the stock model, which reads every thread alone.

    temperature: of the recipe.
    """
    differences = []
    replies = [(each, reply) for each in rollouts.answered for reply in each.replies]
    start = 0
    for each, reply in replies[:COMPARED]:
        ids = torch.tensor([[*each.prompt, *reply.ids]], device=actor.device)
        logits = actor.policy.run(partial(_stock_logits, actor.policy, ids))[len(each.prompt) - 1 : -1]
        table = torch.log_softmax(logits / temperature, dim=-1)
        expected = table.gather(1, ids[0, len(each.prompt) :, None])[:, 0].cpu()
        stored = torch.from_numpy(rollouts.columns[OLD_LOG_PROBABILITY][start : start + len(reply.ids)])
        differences.append(largest_difference(stored, expected))
        start += len(reply.ids)
    return _gate(actor, STOCK, max_or_nan(differences), "stock transformers and Tunesmith", "objective.temperature")


def _stock_logits(policy: Policy, ids: torch.Tensor) -> torch.Tensor:
    """float32 [T, V], what the stock model gives. ids: int64 [1, T]."""
    with policy.autocast():
        logits: torch.Tensor = policy.model(input_ids=ids, use_cache=False).logits[0]
        return logits.float()


def reference_gate(actor: ActorCritic, rollouts: Rollouts) -> Check:
    """The reference is the policy before the first step, so they agree."""
    policy, reference = (torch.from_numpy(rollouts.columns[name]) for name in (OLD_LOG_PROBABILITY, REFERENCE))
    difference = largest_difference(policy, reference)
    return _gate(actor, REFERENCE_KL, difference, "model and reference", "objective.reference")


def _gate(actor: ActorCritic, name: str, difference: float, compared: str, key: str) -> Check:
    """difference: largest one of a log-probability, in nats; NaN fails. compared: the two that were compared."""
    allowed = TOLERANCE[actor.compute]
    if difference <= allowed:
        return Check(name, "pass", f"{compared} give the same probabilities (difference {difference:.1g})", key)
    summary = f"{compared} give different probabilities (difference {difference:.1e} nats, allowed {allowed:g})"
    return Check(name, "fail", summary, key, DEFECT)
