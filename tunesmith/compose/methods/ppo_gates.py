"""What must hold before the first step of PPO: the stored numbers are those of the policy that is about to be trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from tunesmith.batch.columns import OLD_LOG_PROBABILITY, REFERENCE
from tunesmith.batch.packed import PackedBatch
from tunesmith.model.actor_critic import ActorCritic
from tunesmith.recipe.objectives import Ppo
from tunesmith.report.check import Check
from tunesmith.train.rollout.plan import Place
from tunesmith.train.rollout.rollouts import Rollouts
from tunesmith.train.rollout.steps import RolloutSteps
from tunesmith.verify.differences import largest_difference, max_or_nan
from tunesmith.verify.self_test import TOLERANCE

DEFECT = "this is a defect of Tunesmith; please report it with the recipe"
STOCK = 4  # replies that the stock model reads


def gates_of(actor: ActorCritic, steps: RolloutSteps, keys: Ppo) -> Callable[[], Sequence[Check]]:
    """Writes the replies of the first iteration, which its first step then uses."""

    def gates() -> Sequence[Check]:
        first = steps[0]
        rollouts = steps.rollouts(Place(0, 0))
        actor.eval()
        batches = [batch.to(actor.device) for batch in first.batches]
        checks = [_ratio(actor, batches), _stock(actor, rollouts, keys.temperature)]
        return [*checks, _reference(actor, rollouts)] if keys.reference == "start" else checks

    return gates


@torch.no_grad()
def _ratio(actor: ActorCritic, batches: Sequence[object]) -> Check:
    """The first step computes the log-probabilities that were stored, so every ratio is 1."""
    differences = []
    for batch in batches:
        assert isinstance(batch, PackedBatch)
        found, _ = actor.actor_critic(batch)
        differences.append(largest_difference(found.log_probability, batch.columns[OLD_LOG_PROBABILITY]))
    return _verdict(actor, "the ratio of the first step is 1", max_or_nan(differences), "objective.kind")


@torch.no_grad()
def _stock(actor: ActorCritic, rollouts: Rollouts, temperature: float) -> Check:
    """What is stored of the first replies is what the stock model gives for the thread alone, at the recipe's temperature."""
    differences = []
    places = [(each, reply) for each in rollouts.answered for reply in each.replies]
    start = 0
    for each, reply in places[:STOCK]:
        ids = torch.tensor([[*each.prompt, *reply.ids]], device=actor.device)
        with actor.autocast():
            logits = actor.model(input_ids=ids, use_cache=False).logits[0, len(each.prompt) - 1 : -1].float()
        table = torch.log_softmax(logits / temperature, dim=-1)
        expected = table.gather(1, ids[0, len(each.prompt) :, None])[:, 0].cpu()
        stored = torch.from_numpy(rollouts.columns[OLD_LOG_PROBABILITY][start : start + len(reply.ids)])
        differences.append(largest_difference(stored, expected))
        start += len(reply.ids)
    name = "log-probabilities of the replies are those of the stock model at their temperature"
    return _verdict(actor, name, max_or_nan(differences), "objective.temperature")


def _reference(actor: ActorCritic, rollouts: Rollouts) -> Check:
    """The reference is the model as it starts, so nothing lies between the two."""
    difference = rollouts.columns[OLD_LOG_PROBABILITY] - rollouts.columns[REFERENCE]
    name = "the KL to the reference is 0 before the first step"
    return _verdict(actor, name, float(abs(difference).max()), "objective.reference")


def _verdict(actor: ActorCritic, name: str, worst: float, key: str) -> Check:
    allowed = TOLERANCE[actor.compute]
    summary = f"largest difference of a log-probability {worst:.1e}, allowed {allowed:g}"
    return Check(name, "pass" if worst <= allowed else "fail", summary, key, DEFECT)
