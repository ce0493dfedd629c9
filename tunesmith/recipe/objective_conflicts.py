"""Conflicts between the objective and the other sections of a recipe.

Conflicts between the objective and the readers are found in compose, where the readers are known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tunesmith.recipe.objectives import DpoConfig, PpoConfig, RewardConfig, SftConfig
from tunesmith.recipe.section import Conflict

CROPS = ("left", "window")
"""Kinds of truncation that take long threads out of their tree."""


def find_objective_conflicts(
    objective: SftConfig | DpoConfig | RewardConfig | PpoConfig, values: Mapping[str, Any]
) -> Iterator[Conflict]:
    """Values that cannot be used with the objective.

    values: dotted key -> value, for the keys that are valid by themselves.
    """
    match objective:
        case DpoConfig() | RewardConfig():
            yield from _find_ranking_conflicts(objective.kind, values)
        case PpoConfig():
            yield from _find_rollout_conflicts(objective, values)
        case SftConfig():
            pass
    if isinstance(objective, RewardConfig) and values.get("evaluate.replies"):
        yield Conflict("evaluate.replies", "a reward model scores replies and generates none; set this to 0")


def _find_ranking_conflicts(kind: str, values: Mapping[str, Any]) -> Iterator[Conflict]:
    """Replies to one prompt are compared, so they stay in one tree."""
    if (truncation := values.get("text.truncation")) in CROPS:
        message = f"{truncation!r} would separate the replies that objective {kind} compares; use drop or right"
        yield Conflict("text.truncation", message)


def _find_rollout_conflicts(objective: PpoConfig, values: Mapping[str, Any]) -> Iterator[Conflict]:
    """Prompts are never truncated, leave space for a reply, and are what a batch consists of."""
    if (truncation := values.get("text.truncation")) not in (None, "drop", "error"):
        message = f"{truncation!r} would truncate the prompts of objective ppo; use drop or error"
        yield Conflict("text.truncation", message)
    limit = values.get("text.max_length")
    if limit is not None and objective.max_new_tokens >= limit:
        message = f"a reply of {objective.max_new_tokens:,} tokens leaves no space for a prompt in text.max_length"
        yield Conflict("objective.max_new_tokens", f"{message} ({limit:,}); lower it or raise text.max_length")
    if (unit := values.get("train.batch_unit")) not in (None, "examples"):
        message = f"{unit!r} cannot be used with objective ppo, whose batches consist of prompts; use examples"
        yield Conflict("train.batch_unit", message)
    size = values.get("train.batch_size")
    if size is not None and size > objective.prompts_per_iteration:
        message = f"{size:,} prompts are more than one iteration has ({objective.prompts_per_iteration:,})"
        yield Conflict("train.batch_size", f"{message}; lower it or raise objective.prompts_per_iteration")
    if values.get("model.residual_dropout"):
        message = "dropout would change the probabilities of replies after they were generated"
        yield Conflict("model.residual_dropout", f"{message}; set it to 0 for objective ppo")
    if values.get("evaluate.replies"):
        message = "prompts have no replies to compare with, and evaluations of objective ppo report rewards anyway"
        yield Conflict("evaluate.replies", f"{message}; set it to 0")
