"""What an objective asks of the other sections of a recipe. What it asks of the readers is asked where these are known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tunesmith.recipe.objectives import Dpo, Ppo, Reward, Sft
from tunesmith.recipe.section import Problem

CROPS = ("left", "window")
"""Ways of truncation that take long threads out of their tree."""


def objective_problems(objective: Sft | Dpo | Reward | Ppo, values: Mapping[str, Any]) -> Iterator[Problem]:
    """What a recipe says that does not go with its objective.

    values: dotted key -> value, of the keys that are free of other faults.
    """
    match objective:
        case Dpo() | Reward():
            yield from _of_rankings(objective.kind, values)
        case Ppo():
            yield from _of_rollouts(objective, values)
        case Sft():
            pass
    if isinstance(objective, Reward) and values.get("evaluate.replies"):
        yield Problem("evaluate.replies", "a reward model scores replies and writes none; set this to 0")


def _of_rankings(kind: str, values: Mapping[str, Any]) -> Iterator[Problem]:
    """Replies to one prompt are compared, so they stay together."""
    if (truncation := values.get("text.truncation")) in CROPS:
        what = f"{truncation!r} would part the replies that objective {kind} compares; use drop or right"
        yield Problem("text.truncation", what)


def _of_rollouts(objective: Ppo, values: Mapping[str, Any]) -> Iterator[Problem]:
    """Prompts are left whole, with room for a reply, and steps are made of prompts."""
    if (truncation := values.get("text.truncation")) not in (None, "drop", "error"):
        yield Problem("text.truncation", f"{truncation!r} would cut the prompts of objective ppo; use drop or error")
    limit = values.get("text.max_length")
    if limit is not None and objective.max_new_tokens >= limit:
        what = f"{objective.max_new_tokens:,} leaves no room for a prompt within text.max_length ({limit:,})"
        yield Problem("objective.max_new_tokens", f"{what}; ask for shorter replies or raise that")
    if (unit := values.get("train.batch_unit")) not in (None, "examples"):
        yield Problem(
            "train.batch_unit", f"{unit!r} is nothing for objective ppo, whose steps are of prompts; use examples"
        )
    size = values.get("train.batch_size")
    if size is not None and size > objective.prompts_per_iteration:
        what = f"{size:,} prompts are more than an iteration has ({objective.prompts_per_iteration:,})"
        yield Problem("train.batch_size", f"{what}; lower it, or raise objective.prompts_per_iteration")
    if values.get("model.residual_dropout"):
        what = "noise would move the probabilities of replies after they were written; set it to 0 for objective ppo"
        yield Problem("model.residual_dropout", what)
    if values.get("evaluate.replies"):
        what = "prompts have no replies to compare with, and are rewarded at every evaluation; set it to 0 for objective ppo"
        yield Problem("evaluate.replies", what)
