"""Evaluation of PPO: rewards of the most probable replies to prompts that are held back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from tunesmith.compose.methods.method import RunContext
from tunesmith.data.dataset.plan import PlannedStep
from tunesmith.data.dataset.prompt_list import list_prompts
from tunesmith.train.rollout.generator import RolloutGenerator
from tunesmith.train.rollout.rollouts import Rollouts
from tunesmith.train.run.validation import ValidationMetrics


def scores_of(setting: RunContext, maker: RolloutGenerator) -> Callable[[], ValidationMetrics] | None:
    """maker: of the replies, one to each prompt. ``loss`` is the mean reward with the other sign, so that the best checkpoint is the
    one with the highest reward unless the recipe says otherwise."""
    if setting.validation is None:
        return None
    store, sources = setting.validation
    prompts = list_prompts(store)
    asking = replace(maker, prompts=prompts.ids)
    planned = PlannedStep(0, 0, tuple(range(len(prompts))))

    def scores() -> ValidationMetrics:
        rollouts = asking(0, planned, 0.0)
        found = {"all": _measures(rollouts, np.ones(len(prompts), np.bool_))}
        for index, name in enumerate(sources):
            mine = prompts.source == index
            if mine.any():
                found[name] = _measures(rollouts, mine)
        return found

    return scores


def _measures(rollouts: Rollouts, mine: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Mapping[str, float]:
    """Of the prompts that are marked. mine: bool [P]."""
    chosen = [index for index, marked in enumerate(mine.tolist()) if marked]
    rewards = rollouts.rewards.astype(np.float64)[mine]
    replies = [rollouts.answered[index].replies[0] for index in chosen]
    return {
        "loss": -float(rewards.mean()),
        "rewards/mean": float(rewards.mean()),
        "rewards/finished": sum(reply.stopped for reply in replies) / len(replies),
        "replies/length": sum(len(reply.ids) for reply in replies) / len(replies),
    }
