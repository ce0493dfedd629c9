"""Evaluation of PPO: the rewards of greedy replies to held-out prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tunesmith.compose.reply_evaluation import PromptText
from tunesmith.data.dataset.plan import PlannedStep
from tunesmith.data.dataset.prompt_list import PromptList, list_prompts
from tunesmith.data.dataset.store import Store
from tunesmith.text.tokens.render import Renderer
from tunesmith.train.rollout.generator import RolloutGenerator
from tunesmith.train.rollout.rollouts import Rollouts
from tunesmith.train.run.shown import ShownText
from tunesmith.train.run.validation import ValidationMetrics


@dataclass(slots=True)
class RewardEvaluation:
    """Evaluates the present weights on all prompts of a store.

    ``loss`` is the mean reward with the other sign, so the best checkpoint is the one with the highest reward unless
    the recipe chooses another metric.

    prompts: of the store.
    sources: their names, in the order of the store.
    generate: writes one greedy reply to each prompt.
    last: the replies of the last evaluation.
    """

    prompts: PromptList
    sources: Sequence[str]
    generate: RolloutGenerator
    last: Rollouts | None = None

    @classmethod
    def on(cls, store: Store, sources: Sequence[str], generator: RolloutGenerator) -> RewardEvaluation:
        """An evaluation on the prompts of a store. sources, generator: see the fields."""
        prompts = list_prompts(store)
        return cls(prompts, sources, replace(generator, prompts=prompts.ids))

    def __call__(self) -> ValidationMetrics:
        planned = PlannedStep(0, 0, tuple(range(len(self.prompts))))
        self.last = rollouts = self.generate(0, planned, 0.0)
        found = {"all": _metrics(rollouts, np.ones(len(self.prompts), np.bool_))}
        for index, name in enumerate(self.sources):
            mask = self.prompts.source == index
            if mask.any():
                found[name] = _metrics(rollouts, mask)
        return found

    def texts(self, count: int, renderer: Renderer) -> Sequence[ShownText]:
        """The first ``count`` prompts, and the replies and rewards of the last evaluation."""
        if self.last is None:
            return ()
        text, found = PromptText(renderer), list[ShownText]()
        for each, reward in zip(self.last.answered[:count], self.last.rewards.tolist(), strict=False):
            found.append(ShownText("prompt", text(each.prompt)))
            found.append(ShownText(f"reward {reward:+.2f}", renderer.parse(list(each.replies[0].ids)).text))
        return found


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
