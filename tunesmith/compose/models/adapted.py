"""Adapters of a recipe: adding them to its model, and placing the frozen base on its device."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn
from transformers import PreTrainedModel

from tunesmith.draws import stream_seed
from tunesmith.model.adapter_config import CLASSIFICATION, Task
from tunesmith.model.adapter_files import PeftAdapter, peft_adapter
from tunesmith.model.adapters import (
    AdapterSettings,
    add_adapters,
    find_layers,
    is_adapted,
    merge_adapters,
    train_rows,
)
from tunesmith.model.devices import best_device
from tunesmith.model.directory import find_model
from tunesmith.model.opening import OpenedModel
from tunesmith.model.quantized import quantize_layers
from tunesmith.model.reward_model import HEAD
from tunesmith.model.split import widen
from tunesmith.recipe.adapter import AdapterConfig
from tunesmith.recipe.model import ModelConfig
from tunesmith.recipe.schema import Recipe
from tunesmith.text.tokenizer.tokenizer import Tokenizer


def adapter_settings(keys: AdapterConfig) -> AdapterSettings:
    """The shape of the adapters of a recipe."""
    targets = None if keys.targets == "all-linear" else keys.targets
    return AdapterSettings(keys.rank, keys.alpha, targets, keys.rank_stabilized)


def adapt(recipe: Recipe, model: PreTrainedModel, tokenizer: Tokenizer, rows: tuple[int, int]) -> None:
    """Add the adapters of a recipe to its model; the head of a reward model is trained as well.

    rows: of the embedding of the base model, and of the model now. Rows that were added belong to the adapters also
        where they are not trained.
    Raises RecipeError for targets that the model does not have.
    """
    keys = recipe.model.adapter
    if keys is None:
        return
    add_adapters(model, adapter_settings(keys), stream_seed(recipe.seed, "adapter"))
    if isinstance(head := getattr(model, HEAD, None), nn.Module):
        head.requires_grad_(True)
    before, after = rows
    first, end = min(tokenizer.read_size, before), after if after > before else tokenizer.size
    if first < end and (keys.new_rows or after > before):
        train_rows(model, first, end, trained=keys.new_rows)


def name_base_format(keys: ModelConfig) -> ModelConfig:
    """The section with the value that ``adapter.base: auto`` has on this machine."""
    if keys.adapter is None or keys.adapter.base != "auto":
        return keys
    halves = best_device().type == "cuda" and keys.dtype == "bfloat16"
    adapter = keys.adapter.model_copy(update={"base": "bfloat16" if halves else "float32"})
    return keys.model_copy(update={"adapter": adapter})


def place_model(keys: ModelConfig, opened: OpenedModel) -> None:
    """Put a model on its device, with the weights of an adapted base stored as the recipe says.

    A divided model is there already. Raises RecipeError where 4 bits are asked for and there is no GPU, or no
    bitsandbytes.
    """
    if opened.root is not None:
        return
    model, device = opened.model, best_device()
    if keys.adapter is not None:
        store_base(keys.adapter, model)
        if keys.adapter.kind == "qlora":
            names = find_layers(model, adapter_settings(keys.adapter).targets)
            quantize_layers(model, names, device, torch.bfloat16 if keys.dtype == "bfloat16" else torch.float32)
    move_to_device(model, device)


@torch.no_grad()
def store_base(keys: AdapterConfig, model: nn.Module) -> None:
    """Change the frozen float32 weights of a model to the format of the base, in place."""
    if keys.base == "bfloat16":
        for parameter in model.parameters():
            if not parameter.requires_grad and parameter.dtype == torch.float32:
                parameter.data = parameter.data.bfloat16()


def merge(keys: AdapterConfig, model: nn.Module) -> None:
    """Turn an adapted model with a float32 base into a stock model in float32, on the weights that were trained with.

    Those of a base in bfloat16 are rounded first; those of one in 4 bits are not, since 4 bits were only for memory.
    """
    store_base(keys, model)
    widen(model)
    merge_adapters(model)


def exported_adapter(
    keys: ModelConfig, model: PreTrainedModel, base: str, kind: Literal["assistant", "reward"]
) -> PeftAdapter | None:
    """The adapters of a model for peft, before they are merged; None where no base could be named.

    Random weights have no files, and peft reads no base that has adapters already.
    base: the name of the base model in the files.
    """
    if keys.adapter is None or keys.path is None or find_model(keys.path, keys.revision).adapter is not None:
        return None
    task: Task = "SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else "CAUSAL_LM"
    task = CLASSIFICATION if kind == "reward" else task
    return peft_adapter(model, adapter_settings(keys.adapter), base, keys.revision, task)


def adapt_value_model(keys: AdapterConfig | None, model: PreTrainedModel, seed: int) -> None:
    """Add adapters to the reward model that a value function starts from; its head is trained as well.

    Its base is never stored in 4 bits. seed: of the adapters.
    """
    if keys is not None:
        add_adapters(model, adapter_settings(keys), seed)
        model.get_submodule(HEAD).requires_grad_(True)
        store_base(keys, model)


def rate_factor(keys: ModelConfig) -> float:
    """The factor on the learning rates of the schedule."""
    return 1.0 if keys.adapter is None else keys.adapter.learning_rate_factor


def describe_parameters(model: nn.Module) -> str:
    """The number of parameters, and how many of them are trained where that is not all."""
    parameters = list(model.parameters())
    count = sum(each.numel() for each in parameters)
    trained = sum(each.numel() for each in parameters if each.requires_grad)
    if not is_adapted(model):
        return f"{count:,} parameters"
    return f"{count - trained:,} frozen parameters and {trained:,} in adapters ({trained / (count - trained):.2%})"


def describe_base(keys: ModelConfig) -> str:
    """How the base of an adapted model is stored; empty for float32."""
    if keys.adapter is None:
        return ""
    if keys.adapter.kind == "qlora":
        return ", adapted layers stored in 4 bits"
    return "" if keys.adapter.base == "float32" else f", base stored as {keys.adapter.base}"


def move_to_device(model: nn.Module, device: torch.device) -> None:
    """Move a model in place."""
    model.to(device)
