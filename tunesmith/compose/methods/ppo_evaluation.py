"""Evaluation of PPO: the rewards of greedy replies to held-out prompts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tunesmith.data.dataset.plan import PlannedStep
from tunesmith.data.dataset.prompt_list import list_prompts
from tunesmith.data.dataset.store import Store
from tunesmith.train.rollout.generator import RolloutGenerator
from tunesmith.train.rollout.rollouts import Rollouts
from tunesmith.train.run.validation import ValidationMetrics


def reward_evaluation(
    store: Store, sources: Sequence[str], generator: RolloutGenerator
) -> Callable[[], ValidationMetrics]:
    """Evaluates the present weights on all prompts of a store.

    ``loss`` is the mean reward with the other sign, so the best checkpoint is the one with the highest reward unless
    the recipe chooses another metric.

    sources: their names, in the order of the store.
    generator: writes one greedy reply to each prompt.
    """
    prompts = list_prompts(store)
    generate = replace(generator, prompts=prompts.ids)
    planned = PlannedStep(0, 0, tuple(range(len(prompts))))

    def evaluate() -> ValidationMetrics:
        rollouts = generate(0, planned, 0.0)
        found = {"all": _metrics(rollouts, np.ones(len(prompts), np.bool_))}
        for index, name in enumerate(sources):
            mask = prompts.source == index
            if mask.any():
                found[name] = _metrics(rollouts, mask)
        return found

    return evaluate


def _metrics(rollouts: Rollouts, mask: NDArray[np.bool_]) -> Mapping[str, float]:
    """The metrics of some prompts. mask: bool [P], which prompts."""
    rewards = rollouts.rewards.astype(np.float64)[mask]
    replies = [rollouts.answered[index].replies[0] for index in np.flatnonzero(mask)]
    return {
        "loss": -float(rewards.mean()),
        "rewards/mean": float(rewards.mean()),
        "rewards/finished": sum(reply.stopped for reply in replies) / len(replies),
        "replies/length": sum(len(reply.ids) for reply in replies) / len(replies),
    }
