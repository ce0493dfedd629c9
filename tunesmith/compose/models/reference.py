"""The reference that DPO and PPO compare a policy with: the model before the first step, or a separate one."""

from __future__ import annotations

import copy
from pathlib import Path

from tunesmith.compose.components.tokenizer import check_same_tokenizer
from tunesmith.compose.models import families
from tunesmith.errors import MissingInputError, RecipeError
from tunesmith.files import looks_like_path
from tunesmith.generate.export_directory import find_export
from tunesmith.model.adapters import is_adapted
from tunesmith.model.base_policy import BasePolicy
from tunesmith.model.divided_copy import copy_divided
from tunesmith.model.load import read_local_architecture
from tunesmith.model.opening import OpenedModel, open_language_model
from tunesmith.model.policy import Policy
from tunesmith.model.shard import Division
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


def load_reference(recipe: Recipe, tokenizer: Tokenizer, division: Division | None = None) -> OpenedModel:
    """The model of a separate reference. Raises RecipeError, MissingInputError, DataError.

    division: given, all processes load it together and divide its weights.
    """
    path = find_reference(recipe)
    assert path is not None
    check_reference(recipe, tokenizer)
    opened = open_language_model(path, division=division)
    families.check_positions(recipe, opened.model)
    rows = rows_of(opened.model)
    if rows < tokenizer.size:
        what = f"the reference has {rows:,} rows in its embedding, the tokenizer {tokenizer.size:,} tokens"
        raise RecipeError(what, where=KEY, advice="use a reference with the same tokenizer, such as start")
    return opened


def reference_policy(recipe: Recipe, policy: Policy, renderer: Renderer) -> Policy | BasePolicy:
    """A frozen reference next to a policy: a copy of its present weights, or the model that the recipe names.

    The copy of an adapted policy is the model itself with its adapters off. Next to a divided policy the reference is
    divided as well.
    Raises RecipeError (another tokenizer), MissingInputError, DataError.
    """
    if recipe.objective.separate_reference is None and is_adapted(policy.model):
        return BasePolicy(policy)
    if recipe.objective.separate_reference is not None:
        opened = load_reference(recipe, renderer.tokenizer, policy.division)
        found = families.prepare_causal_policy(recipe, opened, renderer.tokenizer).policy
    elif policy.sharded is not None:
        found, opened = policy, copy_divided(policy.model, policy.sharded, lambda model: model)
    else:
        found, opened = policy, OpenedModel(copy.deepcopy(policy.model))
    families.freeze(recipe, opened.model, opened.model, opened.root)
    return found.on_model(opened.model, opened.root, policy.temperature)
