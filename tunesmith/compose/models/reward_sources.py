"""Where the rewards of sampled replies come from: a reward model, or an exact check written next to the prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, assert_never

import torch
from torch import Tensor

from tunesmith.batch.packed import PackedBatch
from tunesmith.compose.models.families import freeze
from tunesmith.compose.models.reward_models import prepare_reward_model
from tunesmith.data.dataset.prompt_list import PromptList
from tunesmith.data.readers.reader import Filtered
from tunesmith.data.readers.registry import open_reader
from tunesmith.data.sources.source import rows
from tunesmith.errors import DataError
from tunesmith.evaluate.text_match import TextCheck, check_from_json, passes
from tunesmith.model.body import body_of
from tunesmith.model.policy import Policy
from tunesmith.model.scalar_policy import ScalarPolicy
from tunesmith.recipe.objectives import CheckRewardConfig, ModelRewardConfig, PpoConfig
from tunesmith.recipe.schema import Recipe
from tunesmith.text.tokens.prompts import make_prompt_tree
from tunesmith.text.tokens.render import Renderer
from tunesmith.train.rollout.generator import RewardSource
from tunesmith.train.rollout.rollouts import PromptReplies

FIELD = "check"
SHOWN = 120  # characters of a prompt in an error message

ChecksByPrompt = Mapping[tuple[int, ...], TextCheck]
"""Token ids of a prompt -> the check of its replies."""


def reward_sources(
    recipe: Recipe, keys: PpoConfig, renderer: Renderer, policy: Policy, prompts: Sequence[PromptList]
) -> tuple[RewardSource, ...]:
    """The reward sources of a recipe, each ready to score replies.

    prompts: all prompts that will be answered; a source of checks must have one for each.

    Raises RecipeError (a reward model with another tokenizer or prompt format), MissingInputError, DataError.
    """
    kinds = [reward.kind for reward in keys.rewards]
    found: list[RewardSource] = []
    for index, reward in enumerate(keys.rewards):
        name = reward.kind if kinds.count(reward.kind) == 1 else f"{reward.kind}-{index + 1}"
        match reward:
            case ModelRewardConfig():
                model = prepare_reward_model(f"objective.rewards.{index}.path", reward.path, recipe, policy, renderer)
                freeze(recipe, model.model, body_of(model.model), model.sharded)
                found.append(RewardSource(name, ModelScore(model), reward.scale, reward.offset))
            case CheckRewardConfig():
                checks = read_checks(reward.path, renderer)
                check_prompts_covered(checks, prompts, reward.path, renderer)
                found.append(RewardSource(name, CheckScore(checks, renderer), reward.scale, reward.offset))
            case _:
                assert_never(reward)
    return tuple(found)


class ModelScore:
    """The scores of a reward model, read at the last token of every reply."""

    def __init__(self, model: ScalarPolicy) -> None:
        self.model = model

    def __call__(self, batch: PackedBatch, answered: Sequence[PromptReplies]) -> Tensor:
        """float32 [R], the score of every reply of the batch."""
        return self.model.scalars(batch, batch.replies.end)


class CheckScore:
    """1 for a reply that passes the check of its prompt, 0 for any other."""

    def __init__(self, checks: ChecksByPrompt, renderer: Renderer) -> None:
        self.checks, self.renderer = checks, renderer

    def __call__(self, batch: PackedBatch, answered: Sequence[PromptReplies]) -> Tensor:
        """float32 [R], in the order of ``answered`` and its replies."""
        return torch.tensor(
            [
                float(passes(self.checks[each.prompt], self.renderer.parse(reply.ids).text))
                for each in answered
                for reply in each.replies
            ]
        )


def read_checks(path: str, renderer: Renderer) -> ChecksByPrompt:
    """The checks of a file by the token ids of their prompts.

    path: a file of records as reader dolly reads them, with a further field ``check``.

    Raises MissingInputError; DataError for a record whose check cannot be read, or two different checks of one prompt.
    """
    found: dict[tuple[int, ...], TextCheck] = {}
    read = open_reader("dolly", {}, {}, where=f"rewards {Path(path).name}")
    for row in rows(path):
        check = _parse_check(row.value.get(FIELD), row.place)
        result = read(row.value)
        assert not isinstance(result, Filtered), "an empty record is an error unless an option allows it"
        tree = make_prompt_tree(result.tree, "last")
        assert tree is not None, "an instruction is a user message"
        prompt = tuple(renderer.prompt(tree.messages[:-1]))
        if found.setdefault(prompt, check) != check:
            raise DataError(
                "an earlier record has another check of this prompt",
                where=row.place,
                advice="keep one of the two records",
            )
    return found


def _parse_check(value: Any, place: str) -> TextCheck:
    """A check in the form that ``check_to_json`` writes. Raises DataError."""
    advice = 'write {"one_of": ["..."]}, or {"list_of": ["..."], "count": 3}'
    if not isinstance(value, dict):
        raise DataError(f"field {FIELD!r} is missing or no object", where=place, advice=advice)
    try:
        return check_from_json(value)
    except ValueError as error:
        raise DataError(f"field {FIELD!r} is no check: {error}", where=place, advice=advice) from error


def check_prompts_covered(checks: ChecksByPrompt, prompts: Sequence[PromptList], path: str, renderer: Renderer) -> None:
    """Raises DataError naming the first prompt that has no check."""
    for asked in prompts:
        for number in range(len(asked)):
            ids = asked.ids(number)
            if ids not in checks:
                text = renderer.tokenizer.decode(ids, skip_controls=False)
                shown = text if len(text) <= SHOWN else f"... {text[-SHOWN:]}"
                what = f"there is no check for the prompt {shown!r}"
                raise DataError(
                    what, where=path, advice="add its record to the file, or remove the prompt from the data"
                )
