"""The keys of a recipe for low-rank adapters, and what they cannot be combined with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from tunesmith.recipe.section import Conflict, Section
from tunesmith.recipe.training import TrainConfig

Target = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")]


class AdapterConfig(Section):
    """Low-rank adapters (LoRA): only small matrices are trained, next to the weights of the base model."""

    kind: Literal["lora", "qlora"] = Field(
        default="lora",
        description="How the frozen weights are stored: lora as base says; qlora those of the adapted layers in 4 "
        "bits, on a CUDA GPU with the package bitsandbytes.",
    )
    rank: PositiveInt = Field(default=8, description="The inner size of the two matrices of every adapted layer.")
    alpha: PositiveFloat = Field(
        default=16.0, description="The product of the two matrices is multiplied by alpha / rank."
    )
    rank_stabilized: bool = Field(
        default=False, description="Whether it is multiplied by alpha divided by the root of rank instead (rsLoRA)."
    )
    targets: Literal["all-linear"] | Annotated[tuple[Target, ...], Field(strict=False, min_length=1)] = Field(
        default="all-linear",
        description="The layers that are adapted: all linear ones but the head, or the ends of their names, such as "
        "[q_proj, v_proj].",
    )
    dropout: Annotated[float, Field(ge=0, le=0)] = Field(
        default=0.0, description="Always 0; noise comes from model.residual_dropout."
    )
    new_rows: bool = Field(
        default=True,
        description="Whether the rows of embedding and head are trained for the tokens that prompt format and "
        "tokenizer add to those of the base model.",
    )
    base: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="The data type of the weights that are not trained; auto is bfloat16 on a GPU with model.dtype "
        "bfloat16, otherwise float32.",
    )
    learning_rate_factor: PositiveFloat = Field(
        default=1.0,
        description="A factor on train.learning_rate: adapters need about ten times the rate of full fine-tuning.",
    )


def find_adapter_conflicts(
    adapter: AdapterConfig | None, dtype: str | None, train: TrainConfig | None
) -> Iterator[Conflict]:
    """Values that adapters cannot be combined with. dtype: ``model.dtype``; None if the section is invalid.

    The layers for one GPU set ``train.gradients``, which adapters leave without effect (``find_unused_storage``).
    """
    if adapter is None:
        return
    if adapter.base == "bfloat16" and dtype not in (None, "bfloat16"):
        message = f"'bfloat16' needs a forward pass in bfloat16, and model.dtype is {dtype}"
        yield Conflict("model.adapter.base", message, ("model.dtype=bfloat16", "model.adapter.base=auto"))
    if train is None:
        return
    if train.weights not in ("auto", "float32"):
        few = "and with model.adapter the trained weights are few and are float32"
        yield Conflict("train.weights", f"{train.weights!r} is for full fine-tuning, {few}", ("train.weights=float32",))
