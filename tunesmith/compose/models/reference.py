"""A reference of its own: the model that a policy is compared with, where it is not the policy's own beginning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from tunesmith.compose import parts
from tunesmith.compose.models import families
from tunesmith.errors import MissingInputError, RecipeError
from tunesmith.generate.exported import find_export
from tunesmith.model.load import load_model, read_local_architecture
from tunesmith.recipe.schema import Dpo, Ppo, Recipe
from tunesmith.text.tokenizer.tokenizer import Tokenizer

KEY = "objective.reference"


def own_reference(recipe: Recipe) -> str | None:
    """The model directory (of a run, its export) or hub name of the reference of DPO or PPO, or None for a policy's own
    beginning and for none. Raises MissingInputError for a directory without a model."""
    keys = recipe.objective
    if not isinstance(keys, Dpo | Ppo) or keys.reference in ("start", "none"):
        return None
    return str(find_export(keys.reference)) if Path(keys.reference).is_dir() else keys.reference


def check_reference(recipe: Recipe, tokenizer: Tokenizer) -> None:
    """What can be said against the reference before it is loaded. Raises MissingInputError, RecipeError, DataError."""
    path = own_reference(recipe)
    if path is None:
        return
    if not Path(path).is_dir():
        if path.startswith((".", "/", "~")):
            advice = "name a model directory, start or none"
            raise MissingInputError("there is no such directory", where=f"{KEY} {path}", advice=advice)
        return
    if families.family_of(read_local_architecture(Path(path))) is not families.check_model(recipe):
        what = f"{path} is a model of another family than the one that is trained"
        raise RecipeError(what, where=KEY, advice="both must read threads, or both be encoder-decoders")
    parts.check_same_tokenizer(path, tokenizer, recipe, KEY)


def load_reference(recipe: Recipe, tokenizer: Tokenizer) -> tuple[PreTrainedModel, Any]:
    """The model with the rows that the data need, and its policy. Raises RecipeError, MissingInputError, DataError."""
    path = own_reference(recipe)
    assert path is not None
    check_reference(recipe, tokenizer)
    model = load_model(path)
    families.check_positions(recipe, model)
    rows = int(model.config.vocab_size)
    if rows < tokenizer.size:
        what = f"the reference has {rows:,} rows in its embedding, the tokenizer {tokenizer.size:,} tokens"
        raise RecipeError(what, where=KEY, advice="use a reference with the same tokenizer, such as start")
    return model, families.build_learner(recipe, model, tokenizer).policy
