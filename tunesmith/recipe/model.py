"""The keys of a recipe for the base model and its tokenizer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, PositiveInt, model_validator

from tunesmith.recipe.adapter import AdapterConfig
from tunesmith.recipe.section import Conflict, FractionBelowOne, Name, Section, check_conflicts


class ModelConfig(Section):
    """The base model, its tokenizer, and what is changed about the model."""

    path: Annotated[str, Field(min_length=1)] | None = Field(
        default=None,
        description="The base model: a directory or a name on the Hugging Face hub; set either path or init.",
    )
    revision: str | None = Field(
        default=None, description="The commit, tag or branch of path on the hub; null uses the default branch."
    )
    init: Mapping[Name, JsonValue] | None = Field(
        default=None,
        description="A model with random weights: architecture (a transformers model_type such as gpt_neox, llama or "
        "t5) and the arguments of its configuration, which are passed on; set either init or path.",
    )
    tokenizer: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, description="The tokenizer: a directory or a name on the hub; null uses path."
    )
    resize: Literal["none", "grow", "exact"] | PositiveInt = Field(
        default="none",
        description="The rows of the embedding: none keeps them, grow adds rows if tokens need them, exact makes one "
        "row per token, a number n rounds the number of tokens up to a multiple of n.",
    )
    change_format: bool = Field(
        default=False,
        description="Whether path may be an export of Tunesmith that was trained with another prompt format than "
        "text.format and text.options; without this, it is an error.",
    )
    residual_dropout: FractionBelowOne = Field(
        default=0.0, description="The dropout probability on the output of every attention and every MLP."
    )
    residual_dropout_shape: Literal["uniform", "rising"] = Field(
        default="uniform",
        description="How residual_dropout varies over the layers: uniform is the same in every layer, rising goes "
        "from 0 in the first layer to the full value in the last.",
    )
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32",
        description="The data type of the forward and backward pass; train.weights says how weights are stored.",
    )
    gradient_checkpointing: bool | Annotated[float, Field(gt=0, lt=1)] = Field(
        default=False,
        description="Whether activations are recomputed in the backward pass to save memory: in all layers (true), in "
        "none (false), or in a share of them (0.5).",
    )
    adapter: AdapterConfig | None = Field(
        default=None,
        description="Low-rank adapters that are trained instead of the weights of the model; null trains all weights.",
    )
    layout: Literal["auto", "tree", "threads"] = Field(
        default="auto",
        description="How a batch is computed: tree computes shared messages once, threads computes every thread by "
        "itself, auto uses tree if the self-test shows that the model supports it.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_conflicts(_find_model_conflicts(self))
        return self


def _find_model_conflicts(model: ModelConfig) -> Iterator[Conflict]:
    """Weights come from one place, there is a tokenizer, and training in float16 is not supported."""
    if model.path is None and model.init is None:
        message = "there is no model; set model.path (a directory or a hub name) or model.init (random weights)"
        yield Conflict("path", message)
    if model.path is not None and model.init is not None:
        message = f"init (random weights) cannot be combined with path ({model.path!r})"
        yield Conflict("init", message, ("init=null", "path=null"))
    if model.init is not None and model.tokenizer is None:
        message = (
            "a model with random weights (init) has no tokenizer; set model.tokenizer to a directory or a hub name"
        )
        yield Conflict("tokenizer", message)
    if model.init is not None and not isinstance(model.init.get("architecture"), str):
        message = "the required key is missing; name a transformers model_type, such as gpt_neox or llama"
        yield Conflict("init.architecture", message)
    if model.revision is not None and model.path is None:
        yield Conflict("revision", "a revision belongs to model.path, which is not set", ("revision=null",))
    if model.dtype == "float16":
        message = "float16 loses small gradients without loss scaling, which is not supported; use bfloat16"
        yield Conflict("dtype", message)
