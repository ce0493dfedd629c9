"""What a recipe needs: its models are counted, its largest micro-batch is run without memory, and the formula adds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from tunesmith.compose.components.data import target_limit
from tunesmith.compose.components.tokenizer import load_tokenizer, prompt_format, tokenizer_name
from tunesmith.compose.methods.registry import METHODS
from tunesmith.compose.models.families import DTYPES
from tunesmith.compose.sizing.estimate import estimate_memory
from tunesmith.compose.sizing.memory import MemoryEstimate
from tunesmith.compose.sizing.model_sources import FoundModel, find_model_sizes, find_named_model
from tunesmith.compose.sizing.settings import (
    FLOAT,
    HALF,
    Distribution,
    FurtherModel,
    Network,
    StateSettings,
    TrainedAdapter,
    Workload,
)
from tunesmith.generate.scheduler import CACHE_TOKENS
from tunesmith.model.footprint import ActivationBytes
from tunesmith.model.split import WeightFormat
from tunesmith.model.vocabulary import rows_needed
from tunesmith.recipe.objectives import PpoConfig
from tunesmith.recipe.schema import AdafactorConfig, Recipe
from tunesmith.recipe.text import AUTO

QUANTISED_BYTES = 0.6
"""Bytes of a weight that is stored in 4 bits, with its share of the scales and of layers that are not."""


@dataclass(frozen=True, slots=True)
class DataCounts:
    """What is known of the data.

    tokens: that the whole run reads, as often as it reads them; None if unknown.
    steps: optimizer steps of the run; None if unknown.
    longest: tokens of the longest record; None if unknown.
    """

    tokens: int | None = None
    steps: int | None = None
    longest: int | None = None


Passes = tuple[torch.dtype, int, tuple[int, int] | None, float]
"""Number format, tokens of the largest micro-batch, tokens of an input and a reply of an encoder-decoder, and the share
of the layers that is recomputed."""


@dataclass(frozen=True, slots=True)
class SizedRun:
    """A recipe with the counts of its models.

    recipe: what is trained.
    model: where the configuration of the model comes from.
    network: of the model that is trained.
    further: the other models that PPO needs.
    data: what is known of the data.
    counted: activations that were counted already, by the shape of the passes.
    """

    recipe: Recipe
    model: FoundModel
    network: Network
    further: tuple[FurtherModel, ...]
    data: DataCounts
    counted: dict[Passes, ActivationBytes] = field(default_factory=dict)

    def changed(self, recipe: Recipe) -> SizedRun:
        """The same with another recipe for the same models, which are not counted again."""
        return replace(self, recipe=recipe)

    @property
    def activations(self) -> ActivationBytes:
        """Those of one micro-batch of the trained model."""
        passes = _shape_of_passes(self.recipe, self.data)
        if passes not in self.counted:
            self.counted[passes] = self.model.sizes(scores=False).activations(*passes)
        return self.counted[passes]

    @property
    def adapter(self) -> TrainedAdapter | None:
        """The adapter that the recipe trains in place of the weights; None if it has none."""
        keys = self.recipe.model.adapter
        if keys is None:
            return None
        halves = keys.base != "float32" and self.recipe.model.dtype == "bfloat16"
        size = QUANTISED_BYTES if keys.kind == "qlora" else HALF if halves else FLOAT
        sides = self.network.sides + sum(each.network.sides for each in self.further if each.trained)
        return TrainedAdapter(keys.rank * sides, size)

    def memory(self, spread: Distribution) -> MemoryEstimate:
        """The memory of one GPU."""
        states = state_settings(self.recipe)
        if spread.parts > 1:
            states = replace(states, weights="float32")
        return estimate_memory(
            self.network, states, self.workload(), spread, further=self.further, adapter=self.adapter
        )

    def workload(self) -> Workload:
        """The largest micro-batch, and the replies that are generated."""
        recipe = self.recipe
        _, tokens, rows, checkpointing = _shape_of_passes(recipe, self.data)
        replies, length = _generated(recipe)
        return Workload(
            tokens=tokens,
            targets=tokens if rows is None else max(1, tokens // sum(rows)) * rows[1],
            recomputed=checkpointing,
            activations=self.activations,
            value_activations=self.activations if any(each.trained for each in self.further) else None,
            dropout=recipe.model.residual_dropout > 0.0,
            replies=replies,
            reply_length=length,
            by_rows=self.is_loaded_by_rows,
        )

    @property
    def is_loaded_by_rows(self) -> bool:
        """Whether processes that divide the model load their rows of it, and not the whole model."""
        keys = self.recipe.model
        return keys.path is not None and keys.adapter is None

    @property
    def pads(self) -> bool:
        """Whether it is an encoder-decoder, whose batches are padded."""
        return target_limit(self.recipe) is not None

    @property
    def trained_parameters(self) -> int:
        """Parameters of all models that are trained."""
        return self.network.parameters + sum(each.network.parameters for each in self.further if each.trained)


def size_run(recipe: Recipe, data: DataCounts) -> SizedRun:
    """Count the models of a recipe. Raises RecipeError, MissingInputError, DataError."""
    model = find_model_sizes(recipe.model)
    scores = recipe.objective.kind == "reward"
    optimizer = recipe.train.optimizer if isinstance(recipe.train.optimizer, AdafactorConfig) else None
    rows = _rows(recipe, model)
    model = model if rows is None else replace(model, entries={**model.entries, "vocab_size": rows})
    network = model.sizes(scores=scores).network(optimizer)
    further = tuple(_further_models(recipe, network)) if isinstance(recipe.objective, PpoConfig) else ()
    return SizedRun(recipe, model, network, further, data)


def _rows(recipe: Recipe, model: FoundModel) -> int | None:
    """Rows of the embedding, if the tokenizer is at hand; None: those of the configuration."""
    if recipe.text.format == AUTO or not Path(tokenizer_name(recipe)).is_dir():
        return None
    tokens = load_tokenizer(recipe, prompt_format(recipe)).size
    present = model.entries.get("vocab_size", tokens)
    return rows_needed(tokens, int(present), recipe.model.resize)


def state_settings(recipe: Recipe) -> StateSettings:
    """How a recipe stores weights, gradients and moments on a GPU."""
    keys = recipe.train
    return StateSettings(
        weights=stored_weights(recipe),
        gradients=keys.gradients,
        moments=keys.moments,
        offload=keys.offload == "moments",
        optimizer=keys.optimizer.kind,
        first_moment=isinstance(keys.optimizer, AdafactorConfig) and keys.optimizer.beta1 is not None,
        compute=recipe.model.dtype,
    )


def stored_weights(recipe: Recipe) -> WeightFormat:
    """How weights are stored on a GPU, whatever this machine has."""
    if recipe.train.weights != "auto":
        return recipe.train.weights
    return "split" if recipe.model.dtype == "bfloat16" else "float32"


def _further_models(recipe: Recipe, policy: Network) -> Iterator[FurtherModel]:
    """Reference, reward models and value function of PPO."""
    keys = recipe.objective
    assert isinstance(keys, PpoConfig)
    separate = keys.separate_reference
    reference = policy if separate is None else find_named_model(separate).sizes(scores=False).network()
    yield FurtherModel("reference", reference, copied=separate is None)
    for key, path in keys.reward_models.items():
        if key != "objective.value":
            yield FurtherModel("reward model", find_named_model(path).sizes(scores=True).network())
    if keys.value_model is not None:
        yield FurtherModel("value function", find_named_model(keys.value_model).sizes(scores=True).network(), True)
    elif keys.value == "separate":
        body = replace(policy, parameters=policy.parameters - policy.rows * policy.hidden, rows=0)
        yield FurtherModel("value function", body, trained=True, copied=True)


def _shape_of_passes(recipe: Recipe, data: DataCounts) -> Passes:
    replies = target_limit(recipe)
    rows = None if replies is None else (recipe.text.max_length, replies)
    longest = data.longest or recipe.text.max_length + (replies or 0)
    tokens = max(recipe.train.micro_batch_tokens, longest)
    return DTYPES[recipe.model.dtype], tokens, rows, float(recipe.model.gradient_checkpointing)


def _generated(recipe: Recipe) -> tuple[int, int]:
    """(rows, tokens of a row) of replies that are generated together."""
    longest, keys = recipe.text.max_length, recipe.evaluate
    most = keys.batch_size
    if not isinstance(recipe.objective, PpoConfig):
        shown = keys.show if recipe.data.evaluates and METHODS[recipe.objective.kind].kind == "assistant" else 0
        if not (asked := max(keys.replies, shown)):
            return 0, 0
        longest, most = longest + keys.max_new_tokens, min(most, asked)
    return min(most, max(1, CACHE_TOKENS // longest)), longest
