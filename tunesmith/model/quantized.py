"""Frozen layers in 4 bits (QLoRA, T. Dettmers et al. 2023), with the optional package bitsandbytes on a CUDA GPU.

The layers of bitsandbytes are linear layers of PyTorch with a packed weight, so adapters work on them as on others.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from tunesmith.errors import RecipeError
from tunesmith.model.adapters import CHILD, LowRank

WHERE = "model.adapter.kind"


def import_bitsandbytes() -> Any:
    """The module ``bitsandbytes.nn``. Raises RecipeError if it is not installed or cannot be used."""
    try:
        import bitsandbytes.nn
    except Exception as error:  # it looks for libraries of CUDA, and fails in many ways where there are none
        raise RecipeError(
            "qlora needs the package bitsandbytes, which cannot be imported",
            where=WHERE,
            advice="pip install 'tunesmith[qlora]', or append model.adapter.kind=lora",
        ) from error
    return bitsandbytes.nn


def quantize_layers(
    model: nn.Module, names: Iterable[str], device: torch.device, compute: torch.dtype, layers: Any = None
) -> None:
    """Store the weights of frozen layers as NF4 with quantised constants, on the device. Adapters stay as they are.

    names: of the layers.
    compute: number format of the products.
    layers: has ``Linear4bit`` and ``Params4bit``; None for those of bitsandbytes.
    Raises RecipeError without a GPU or without bitsandbytes.
    """
    if layers is None:
        if device.type != "cuda":
            message = "qlora needs a CUDA GPU, and there is none"
            raise RecipeError(message, where=WHERE, advice="append model.adapter.kind=lora")
        layers = import_bitsandbytes()
    for name in names:
        parent, _, last = name.rpartition(".")
        layer = model.get_submodule(name)
        if not isinstance(layer, nn.Linear):
            raise RecipeError(
                f"qlora is for linear layers of PyTorch, and {name} is a {type(layer).__name__}",
                where=WHERE,
                advice="append model.adapter.kind=lora",
            )
        model.get_submodule(parent).add_module(last, _quantized(layer, device, compute, layers))


def _quantized(layer: nn.Linear, device: torch.device, compute: torch.dtype, layers: Any) -> nn.Module:
    """The layer in 4 bits, with the bias, the adapter and the hooks of the layer that it replaces."""
    found: nn.Linear = layers.Linear4bit(
        layer.in_features,
        layer.out_features,
        bias=layer.bias is not None,
        compute_dtype=compute,
        compress_statistics=True,
        quant_type="nf4",
        device="meta",
    )
    weight = layer.weight.detach()
    found.weight = layers.Params4bit(
        weight.to(compute), requires_grad=False, compress_statistics=True, quant_type="nf4", module=found
    )
    if layer.bias is not None:
        found.bias = layer.bias
    found.training = layer.training
    adapter = getattr(layer, CHILD, None)
    if isinstance(adapter, LowRank):
        found.add_module(CHILD, adapter)
        found.register_forward_hook(adapter.add)
    return found.to(device)  # bitsandbytes quantises when a weight moves to a GPU
