"""Models without numbers: the modules and shapes of a configuration, to count parameters and bytes without memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel

from tunesmith.errors import RecipeError
from tunesmith.model.failures import FAMILY_ERRORS, describe_failure
from tunesmith.model.load import generating_kind, untie_head
from tunesmith.model.reward_model import SINGLE_LABEL, classification_kind

DEPTHS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers", "num_decoder_layers")
"""Names that families give the number of their layers."""
EACH_LAYER = ("layer_types", "mlp_layer_types", "no_rope_layers", "attention_layers")
"""Names of lists with one entry for each layer."""

OUTLINE_ERRORS: tuple[type[Exception], ...] = (*FAMILY_ERRORS, StrictDataclassError)
"""What transformers may raise for sizes of which no model can be built."""

META = torch.device("meta")


def outline(
    entries: Mapping[str, Any],
    *,
    scores: bool = False,
    dtype: torch.dtype = torch.float32,
    layers: int | None = None,
    attention: str | None = None,
) -> PreTrainedModel:
    """A model on the device ``meta``, whose tensors have shapes and no memory.

    entries: of a config.json, with the architecture as ``model_type``.
    scores: whether it is a reward model instead of one that generates text.
    dtype: of the weights.
    layers: given, it has only so many layers.
    attention: name of another attention implementation, for families that accept one.
    Raises RecipeError if transformers cannot build it.
    """
    architecture = str(entries["model_type"])
    sizes = {key: value for key, value in entries.items() if key != "model_type"}
    kind = classification_kind(architecture, SINGLE_LABEL) if scores else generating_kind(architecture)
    named = kind.attention if attention is None or kind.attention == "eager" else attention
    with META:
        try:
            wanted = sizes if layers is None else shortened(sizes, layers)
            configuration: PretrainedConfig = AutoConfig.for_model(architecture, **wanted)
            configuration.update(dict(kind.config))
            model: PreTrainedModel = kind.auto_class.from_config(configuration, attn_implementation=named)
        except OUTLINE_ERRORS as error:
            reason = describe_failure(error)
            raise RecipeError(f"no model can be built from this configuration: {reason}", where="model") from error
        if configuration.is_encoder_decoder and sizes.get("tie_word_embeddings") is False:
            untie_head(model)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    nn.Module.to(model, dtype)
    return model


def shortened(sizes: Mapping[str, Any], layers: int) -> dict[str, Any]:
    """The entries of a configuration with fewer layers."""
    found = dict(sizes)
    for key in DEPTHS:
        if isinstance(found.get(key), int):
            found[key] = layers
    for key in EACH_LAYER:
        if isinstance(found.get(key), list):
            found[key] = found[key][:layers]
    return found


def depth_of(config: PretrainedConfig) -> int:
    """The number of layers of a model; of each stack of an encoder-decoder."""
    return int(config.get_text_config().num_hidden_layers)
