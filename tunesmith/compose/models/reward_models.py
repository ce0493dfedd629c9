"""Trained reward models next to a policy: they give rewards, or are where a value function starts."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedModel

from tunesmith.compose.components.tokenizer import check_same_format, check_same_tokenizer
from tunesmith.compose.models.adapted import move_to_device
from tunesmith.errors import RecipeError
from tunesmith.generate.export_directory import find_export
from tunesmith.model.context import NO_LIMIT, context_length
from tunesmith.model.policy import Policy
from tunesmith.model.reward_model import open_reward_model
from tunesmith.model.scalar_policy import ScalarPolicy
from tunesmith.model.vocabulary import rows_of
from tunesmith.recipe.schema import Recipe
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.render import Renderer
from tunesmith.verify.self_test import self_test_scalars


def check_reward_models(recipe: Recipe, tokenizer: Tokenizer) -> None:
    """Check all reward models that the objective names before any is loaded. Raises as ``find_reward_model``."""
    for key, path in recipe.objective.reward_models.items():
        find_reward_model(key, path, recipe, tokenizer)


def find_reward_model(key: str, path: str, recipe: Recipe, tokenizer: Tokenizer) -> Path:
    """The directory of a reward model that was trained on what the policy of the recipe writes.

    key: the recipe key, for messages.
    path: a run, its export or another model directory.

    Raises RecipeError (another tokenizer or prompt format), MissingInputError.
    """
    directory = find_export(path)
    check_same_tokenizer(str(directory), tokenizer, recipe, key)
    check_same_format(directory, recipe, key)
    return directory


def prepare_reward_model(key: str, path: str, recipe: Recipe, policy: Policy, renderer: Renderer) -> ScalarPolicy:
    """A reward model on the device of the policy and in its number format, after the self-test.

    Next to a divided policy it is divided as well.
    key, path: as for ``find_reward_model``.

    Raises RecipeError (another tokenizer or prompt format, too few rows or positions), MissingInputError, DataError.
    """
    directory = find_reward_model(key, path, recipe, renderer.tokenizer)
    opened = open_reward_model(str(directory), division=policy.division)
    check_size(key, opened.model, recipe, renderer.tokenizer)
    if opened.root is None:
        move_to_device(opened.model, policy.device)
    found = ScalarPolicy(opened.model, compute=policy.compute, sharded=opened.root)
    verdict = self_test_scalars(found, renderer.tokenizer.size, recipe.text.max_length)
    return found.with_layout(verdict.layout)


def check_size(key: str, model: PreTrainedModel, recipe: Recipe, tokenizer: Tokenizer) -> None:
    """Raises RecipeError if a model has too few embedding rows or positions. key: the recipe key, for the message."""
    rows, needed = rows_of(model), tokenizer.size
    if rows < needed:
        what = f"the model has {rows:,} token ids, prompt format and tokenizer need {needed:,}"
        raise RecipeError(what, where=key, advice="name a model that was trained with this prompt format")
    positions = context_length(model.config) or NO_LIMIT
    if positions < recipe.text.max_length:
        what = f"the model reads {positions:,} tokens, prompt and reply may have {recipe.text.max_length:,}"
        raise RecipeError(what, where=key, advice=f"set text.max_length to {positions} or less, or name another model")
