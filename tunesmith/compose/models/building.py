"""Building the model of a recipe: pretrained, whole or divided among the processes, or with random weights."""

from __future__ import annotations

from dataclasses import dataclass, field

from transformers import PreTrainedModel

from tunesmith.compose.models.adapted import adapt
from tunesmith.compose.models.families import DTYPES, check_family, family_of
from tunesmith.draws import stream_seed
from tunesmith.model.devices import best_device
from tunesmith.model.load import new_model
from tunesmith.model.opening import OpenedModel, open_language_model
from tunesmith.model.recomputation import recompute_layers
from tunesmith.model.shard import Division, process_mesh
from tunesmith.model.vocabulary import resize_vocabulary
from tunesmith.recipe.objectives import ObjectiveSection
from tunesmith.recipe.schema import Recipe
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.world import Communicator


@dataclass(frozen=True, slots=True)
class BuiltModel:
    """The model of a recipe with an embedding row for every token.

    opened: the model, with its root if its weights are divided.
    before, after: rows of the embedding in the files, and now.
    """

    opened: OpenedModel
    before: int
    after: int

    @property
    def model(self) -> PreTrainedModel:
        """The stock model."""
        return self.opened.model


def division_of(recipe: Recipe, world: Communicator) -> Division | None:
    """How the processes of a run divide weights; None if they do not. recipe: without values ``auto``. Communicates."""
    keys = recipe.train
    if keys.shard != "zero2" and keys.shard != "zero3":
        return None
    return Division(process_mesh(best_device(), world.size, keys.replicas), keys.shard, DTYPES[recipe.model.dtype])


def build_language_model(
    recipe: Recipe, keys: ObjectiveSection, tokenizer: Tokenizer, division: Division | None = None
) -> BuiltModel:
    """The language model of a recipe.

    keys: of any objective; none of them concerns the model.
    division: given, all processes build the model together, and a pretrained one is divided.

    Raises RecipeError, MissingInputError, DataError.
    """
    origin, fit = recipe.model, Fitting(recipe, tokenizer)
    if origin.path is not None:
        return fit.built(open_language_model(origin.path, origin.revision, divided(recipe, division), fit))
    assert origin.init is not None
    settings = family_of(str(origin.init["architecture"])).new_model_settings(tokenizer)
    model = new_model({**settings, **origin.init}, tokenizer.size, stream_seed(recipe.seed, "init"))
    fit(model)
    return fit.built(OpenedModel(model))


def divided(recipe: Recipe, division: Division | None) -> Division | None:
    """How a model of a recipe is divided while it is loaded; None for adapters, whose base is read whole."""
    return division if recipe.model.adapter is None else None


@dataclass(slots=True)
class Fitting:
    """Makes a model fit a recipe: rows of the embedding, adapters, and recomputed layers.

    rows: of the embedding before and after the call.
    """

    recipe: Recipe
    tokenizer: Tokenizer
    rows: tuple[int, int] = field(default=(0, 0), init=False)

    def __call__(self, model: PreTrainedModel) -> None:
        """Change a model in place; its numbers need not be there yet. Raises RecipeError."""
        keys = self.recipe.model
        if keys.path is not None:
            check_family(self.recipe, str(model.config.model_type))
        seed = stream_seed(self.recipe.seed, "resize")
        self.rows = resize_vocabulary(model, self.tokenizer.size, keys.resize, seed)
        adapt(self.recipe, model, self.tokenizer, self.rows)
        if keys.gradient_checkpointing:
            recompute_layers(model, float(keys.gradient_checkpointing))

    def built(self, opened: OpenedModel) -> BuiltModel:
        """The model after the call."""
        return BuiltModel(opened, *self.rows)
