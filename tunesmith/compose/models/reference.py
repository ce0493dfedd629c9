"""The reference that DPO and PPO compare a policy with: the model before the first step, or a separate one."""

from __future__ import annotations

import copy
from pathlib import Path

from transformers import PreTrainedModel

from tunesmith.compose.components.tokenizer import check_same_tokenizer
from tunesmith.compose.models import families
from tunesmith.errors import MissingInputError, RecipeError
from tunesmith.files import looks_like_path
from tunesmith.generate.export_directory import find_export
from tunesmith.model.adapters import is_adapted
from tunesmith.model.base_policy import BasePolicy
from tunesmith.model.load import load_model, read_local_architecture
from tunesmith.model.policy import Policy
from tunesmith.model.split import WeightStorage
from tunesmith.model.vocabulary import rows_of
from tunesmith.recipe.schema import Recipe
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.render import Renderer

KEY = "objective.reference"


def find_reference(recipe: Recipe) -> str | None:
    """The model directory or hub name of a separate reference; None if there is none.

    A run named as the reference means its export. Raises MissingInputError for a directory without a model.
    """
    path = recipe.objective.separate_reference
    if path is None or not Path(path).is_dir():
        return path
    return str(find_export(path))


def check_reference(recipe: Recipe, tokenizer: Tokenizer) -> None:
    """Check a separate reference before it is loaded.

    Raises MissingInputError (no such directory), RecipeError (another family or tokenizer), DataError.
    """
    path = find_reference(recipe)
    if path is None:
        return
    if not Path(path).is_dir():
        if looks_like_path(path):
            advice = "name a model directory, start or none"
            raise MissingInputError("there is no such directory", where=f"{KEY} {path}", advice=advice)
        return
    if families.family_of(read_local_architecture(Path(path))) is not families.find_family(recipe):
        raise RecipeError(
            f"{path} is a model of another family than the one that is trained",
            where=KEY,
            advice="both must be causal models, or both encoder-decoders",
        )
    check_same_tokenizer(path, tokenizer, recipe, KEY)


def load_reference(recipe: Recipe, tokenizer: Tokenizer) -> PreTrainedModel:
    """The model of a separate reference. Raises RecipeError, MissingInputError, DataError."""
    path = find_reference(recipe)
    assert path is not None
    check_reference(recipe, tokenizer)
    model = load_model(path)
    families.check_positions(recipe, model)
    rows = rows_of(model)
    if rows < tokenizer.size:
        what = f"the reference has {rows:,} rows in its embedding, the tokenizer {tokenizer.size:,} tokens"
        raise RecipeError(what, where=KEY, advice="use a reference with the same tokenizer, such as start")
    return model


def reference_policy(recipe: Recipe, policy: Policy, renderer: Renderer) -> Policy | BasePolicy:
    """A frozen reference next to a policy: a copy of its present weights, or the model that the recipe names.

    The copy of an adapted policy is the model itself with its adapters off.
    Raises RecipeError (another tokenizer), MissingInputError, DataError.
    """
    if recipe.objective.separate_reference is None and is_adapted(policy.model):
        return BasePolicy(policy)
    if recipe.objective.separate_reference is None:
        found, model = policy, copy.deepcopy(policy.model)
    else:
        model = load_reference(recipe, renderer.tokenizer)
        found = families.prepare_causal_policy(recipe, model, renderer.tokenizer).policy
    families.freeze(model)
    WeightStorage(families.frozen_format(recipe)).store_frozen(model)
    return Policy(model, compute=found.compute, layout=found.layout, temperature=policy.temperature, rule=found.rule)
