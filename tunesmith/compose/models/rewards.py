"""Where the rewards of sampled replies come from: a reward model, or a check that is written beside the prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, assert_never

import torch
from torch import Tensor

from tunesmith.batch.packed import PackedBatch
from tunesmith.compose.models.auxiliary import fitting_directory, frozen, reward_model
from tunesmith.data.dataset.prompt_list import PromptList
from tunesmith.data.readers.reader import Pruned, Rejected
from tunesmith.data.readers.registry import open_reader
from tunesmith.data.sources.source import rows
from tunesmith.errors import DataError
from tunesmith.evaluate.text_match import Check, check_from_json, passes
from tunesmith.model.policy import Policy
from tunesmith.model.scalar_policy import ScalarPolicy
from tunesmith.recipe.objectives import CheckReward, ModelReward, Ppo
from tunesmith.recipe.schema import Recipe
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.prompts import as_prompts
from tunesmith.text.tokens.render import Renderer
from tunesmith.train.rollout.generator import RewardSource
from tunesmith.train.rollout.rollouts import PromptReplies

CHECK = "check"
SHOWN = 120  # characters of a prompt in an error

Checks = Mapping[tuple[int, ...], Check]


def reward_sources(
    recipe: Recipe, renderer: Renderer, policy: Policy, prompts: Sequence[PromptList]
) -> tuple[RewardSource, ...]:
    """What the recipe names. prompts: all that will be asked, each of which must have its check.

    Raises RecipeError (a reward model with another tokenizer or prompt format), MissingInputError, DataError.
    """
    keys = recipe.objective
    assert isinstance(keys, Ppo)
    kinds = [reward.kind for reward in keys.rewards]
    found: list[RewardSource] = []
    for index, reward in enumerate(keys.rewards):
        name = reward.kind if kinds.count(reward.kind) == 1 else f"{reward.kind}-{index + 1}"
        match reward:
            case ModelReward():
                model = reward_model(f"objective.rewards.{index}.path", reward.path, recipe, policy, renderer)
                frozen(model.model)
                found.append(RewardSource(name, _Scored(model), reward.scale, reward.offset))
            case CheckReward():
                checks = read_checks(reward.path, renderer)
                check_prompts_covered(checks, prompts, reward.path, renderer)
                found.append(RewardSource(name, _Checked(checks, renderer), reward.scale, reward.offset))
            case _:
                assert_never(reward)
    return tuple(found)


def check_rewards(recipe: Recipe, tokenizer: Tokenizer) -> None:
    """What can be said against the models of rewards and values before they are loaded. Raises as ``reward_sources``."""
    keys = recipe.objective
    if not isinstance(keys, Ppo):
        return
    for index, reward in enumerate(keys.rewards):
        if isinstance(reward, ModelReward):
            fitting_directory(f"objective.rewards.{index}.path", reward.path, recipe, tokenizer)
    if keys.value not in ("shared", "separate"):
        fitting_directory("objective.value", keys.value, recipe, tokenizer)


class _Scored:
    """The scores of a reward model, read at the last token of every reply."""

    def __init__(self, model: ScalarPolicy) -> None:
        self.model = model

    def __call__(self, batch: PackedBatch, answered: Sequence[PromptReplies]) -> Tensor:
        return self.model.scalars(batch, batch.replies.end)


class _Checked:
    """1 for every reply that passes the check of its prompt, 0 for any other."""

    def __init__(self, checks: Checks, renderer: Renderer) -> None:
        self.checks, self.renderer = checks, renderer

    def __call__(self, batch: PackedBatch, answered: Sequence[PromptReplies]) -> Tensor:
        return torch.tensor(
            [
                float(passes(self.checks[each.prompt], self.renderer.parse(reply.ids).text))
                for each in answered
                for reply in each.replies
            ]
        )


def read_checks(path: str, renderer: Renderer) -> Checks:
    """The checks of a file by the ids of their prompts. Its records are read as dolly's, with a field ``check`` besides.

    Raises MissingInputError; DataError for a record without a check that can be read, or two checks of one prompt.
    """
    found: dict[tuple[int, ...], Check] = {}
    read = open_reader("dolly", {}, {}, where=f"rewards {Path(path).name}")
    for row in rows(path):
        check = _check(row.value.get(CHECK), row.place)
        outcome = read(row.value)
        assert not isinstance(outcome, Rejected | Pruned), "an empty record is an error unless an option says otherwise"
        tree = as_prompts(outcome, "last")
        assert tree is not None, "an instruction is what a user says"
        prompt = tuple(renderer.prompt(tree.messages[:-1]))
        if found.setdefault(prompt, check) != check:
            advice = "keep one of the two records"
            raise DataError("another check of this prompt stands above", where=row.place, advice=advice)
    return found


def _check(value: Any, place: str) -> Check:
    """A check as ``check_to_json`` writes it. Raises DataError."""
    advice = 'write {"one_of": ["..."]}, or {"list_of": ["..."], "count": 3}'
    if not isinstance(value, dict):
        raise DataError(f"field {CHECK!r} is missing or no object", where=place, advice=advice)
    try:
        return check_from_json(value)
    except ValueError as error:
        raise DataError(f"field {CHECK!r} is no check: {error}", where=place, advice=advice) from error


def check_prompts_covered(checks: Checks, prompts: Sequence[PromptList], path: str, renderer: Renderer) -> None:
    """Raises DataError naming the first prompt that has no check."""
    for asked in prompts:
        for number in range(len(asked)):
            ids = asked.ids(number)
            if ids not in checks:
                text = renderer.tokenizer.decode(ids, skip_controls=False)
                shown = text if len(text) <= SHOWN else f"... {text[-SHOWN:]}"
                what = f"there is no check for the prompt {shown!r}"
                raise DataError(what, where=path, advice="add its record there, or take it out of the data")
