"""Gradient checkpointing of some or all layers: what a layer computed is computed again in the backward pass."""

from __future__ import annotations

from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from tunesmith.errors import RecipeError


def recompute_layers(model: PreTrainedModel, share: float = 1.0) -> None:
    """Let a share of the layers of a model, evenly spread over its depth, keep no activations but their input.

    It changes memory use and speed, never the result.

    share: above 0, and at least one layer; 1 for all layers, which every family can.
    Raises RecipeError for a share of the layers of a family whose layers cannot be switched one by one.
    """
    # transformers renamed the switch during version 5; both names do the same.
    name = "activation_checkpointing_enable"
    switch = getattr(model, name) if hasattr(model, name) else model.gradient_checkpointing_enable
    switch({"use_reentrant": False})
    if share >= 1.0:
        return
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise RecipeError(
            f"the layers of {type(model).__name__} cannot be recomputed one by one",
            where="model.gradient_checkpointing",
            advice="set it to true or false",
        )
    total, chosen = len(layers), max(1, round(share * len(layers)))
    for index, layer in enumerate(layers):
        layer.gradient_checkpointing = (index + 1) * chosen // total > index * chosen // total
