"""Models beside the policy: the reference of a KL, reward models, what a value network begins as.

All of them read the tokens that the policy reads and writes, so they need its tokenizer and room for its threads.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from tunesmith.compose.models.reference import load_reference
from tunesmith.compose.parts import check_same_tokenizer, format_options
from tunesmith.errors import RecipeError
from tunesmith.generate.exported import find_export, read_export
from tunesmith.model.context import context_length
from tunesmith.model.policy import Policy
from tunesmith.model.reward_model import load_reward_model
from tunesmith.model.scalar_policy import ScalarPolicy
from tunesmith.model.vocabulary import rows_of
from tunesmith.recipe.schema import Ppo, Recipe
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.render import Renderer
from tunesmith.verify.self_test import self_test_scalars


def frozen(model: PreTrainedModel) -> PreTrainedModel:
    """The same model, in evaluation mode and without gradients."""
    module: nn.Module = model
    module.requires_grad_(False).eval()
    return model


def reference_policy(recipe: Recipe, policy: Policy, renderer: Renderer) -> Policy:
    """What a policy is compared with: itself as it is now, or the model that the recipe names.

    No step moves it, and it is another model in memory. Raises RecipeError (another tokenizer), MissingInputError, DataError.
    """
    keys = recipe.objective
    assert isinstance(keys, Ppo)
    if keys.reference == "start":
        model = frozen(copy.deepcopy(policy.model))
        return Policy(model, compute=policy.compute, layout=policy.layout, temperature=policy.temperature)
    model, found = load_reference(recipe, renderer.tokenizer)
    return Policy(frozen(model), compute=found.compute, layout=found.layout, temperature=policy.temperature)


def reward_model(where: str, path: str, recipe: Recipe, policy: Policy, renderer: Renderer) -> ScalarPolicy:
    """A reward model that reads what the policy writes, in the policy's number format.

    where: the recipe's key. Raises RecipeError (another tokenizer or prompt format, too few positions), MissingInputError,
    DataError.
    """
    directory = fitting_directory(where, path, recipe, renderer.tokenizer)
    model = load_reward_model(str(directory))
    _fit(where, model, recipe, renderer, policy.device)
    found = ScalarPolicy(model, compute=policy.compute)
    verdict = self_test_scalars(found, renderer.tokenizer.size, recipe.text.max_length)
    return found.with_layout(verdict.layout)


def fitting_directory(where: str, path: str, recipe: Recipe, tokenizer: Tokenizer) -> Path:
    """The model directory that a path means, whose model was trained to read what the recipe's policy writes.

    where: the recipe's key. Raises RecipeError (another tokenizer or prompt format), MissingInputError.
    """
    directory = find_export(path)
    check_same_tokenizer(str(directory), tokenizer, recipe, where)
    check_same_format(where, directory, recipe)
    return directory


def check_same_format(where: str, directory: Path, recipe: Recipe) -> None:
    """Raises RecipeError if an export says that its model was trained with another prompt format than the recipe's."""
    info = read_export(directory)
    if info is None:
        return
    theirs, ours = (info.format, dict(info.options)), (recipe.text.format, dict(format_options(recipe)))
    if theirs != ours:
        shown = [f"{name!r}" + (f" with {given}" if given else "") for name, given in (theirs, ours)]
        what = f"{directory} was trained with prompt format {shown[0]}, the policy writes {shown[1]}"
        advice = "use models that were trained with the same tokenizer and prompt format"
        raise RecipeError(what, where=where, advice=advice)


def _fit(where: str, model: PreTrainedModel, recipe: Recipe, renderer: Renderer, device: torch.device) -> None:
    """Moves a model to its device. Raises RecipeError if it has too few rows or positions."""
    rows, needed = rows_of(model), renderer.tokenizer.size
    if rows < needed:
        what = f"the model has {rows:,} token ids, prompt format and tokenizer need {needed:,}"
        raise RecipeError(what, where=where, advice="name a model that was trained with this prompt format")
    positions = context_length(model.config)
    if positions is not None and positions < recipe.text.max_length:
        what = f"the model reads {positions:,} tokens, prompt and reply may have {recipe.text.max_length:,}"
        raise RecipeError(
            what, where=where, advice=f"set text.max_length to {positions} or less, or name another model"
        )
    module: nn.Module = model  # which moves in place
    module.to(device)
