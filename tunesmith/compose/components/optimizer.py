"""Optimizer and learning-rate schedule of a recipe."""

from __future__ import annotations

from typing import Any, assert_never

import torch
from torch import nn
from transformers import PreTrainedModel

from tunesmith.draws import stream_seed
from tunesmith.model.dropout import decoder_layers
from tunesmith.model.split import WeightStorage
from tunesmith.recipe import schema
from tunesmith.recipe.schema import (
    ConstantScheduleConfig,
    CosineScheduleConfig,
    FactorsScheduleConfig,
    LinearScheduleConfig,
    LogarithmicScheduleConfig,
    ScheduleConfig,
    TrainConfig,
)
from tunesmith.train.loop import Trainable
from tunesmith.train.optim.adafactor import Adafactor
from tunesmith.train.optim.muon import Muon
from tunesmith.train.optim.optimizers import AdamW, Optimizer
from tunesmith.train.optim.schedules import (
    Schedule,
    constant,
    cosine,
    linear,
    logarithmic,
    product_of_factors,
    warmup_steps,
)
from tunesmith.train.optim.storage import StateFormat


def build_schedule(keys: TrainConfig, total: int, factor: float = 1.0) -> Schedule:
    """The learning rate of every step. total: steps of the whole run. factor: of all rates, for adapters."""
    rate, schedule = keys.learning_rate * factor, keys.schedule
    match schedule:
        case ConstantScheduleConfig():
            return constant(rate, schedule.warmup_steps, total)
        case LinearScheduleConfig():
            return linear(rate, warmup_length(schedule, total), total, end=schedule.end)
        case CosineScheduleConfig():
            return cosine(rate, warmup_length(schedule, total), total, minimum=schedule.end)
        case LogarithmicScheduleConfig():
            lag = schedule.lag
            return logarithmic(rate, schedule.warmup_steps, total, decay=schedule.decay, lag=lag, first_at_peak=lag)
        case FactorsScheduleConfig():
            return product_of_factors(rate, total=total, **schedule.model_dump(exclude={"kind"}))
        case _:
            assert_never(schedule)


def warmup_length(schedule: ScheduleConfig, total: int) -> int:
    """Optimizer steps of the warm-up of a schedule. total: steps of the whole run."""
    if isinstance(schedule, FactorsScheduleConfig) and "linear_warmup" not in schedule.factors:
        return 0
    if isinstance(schedule, LinearScheduleConfig | CosineScheduleConfig) and schedule.warmup_ratio is not None:
        return warmup_steps(schedule.warmup_ratio, total)
    return schedule.warmup_steps


def build_optimizer(
    keys: TrainConfig, policy: Trainable, model: PreTrainedModel, weights: WeightStorage, seed: int
) -> Optimizer:
    """The optimizer of all parameters of a policy.

    model: Muon takes the weight matrices of its layers.
    weights: how the parameters are stored.
    seed: of the recipe.
    """
    parameters, optimizer = policy.parameters(), keys.optimizer
    storage = state_format(keys, weights, seed)
    match optimizer:
        case schema.AdamWConfig():
            return AdamW(
                parameters,
                betas=optimizer.betas,
                epsilon=optimizer.epsilon,
                weight_decay=optimizer.weight_decay,
                storage=storage,
            )
        case schema.MuonConfig():
            return Muon(
                parameters,
                hidden_matrices(model),
                learning_rate=keys.learning_rate,
                adamw_learning_rate=optimizer.adamw_learning_rate or keys.learning_rate,
                momentum=optimizer.momentum,
                weight_decay=optimizer.weight_decay,
                betas=optimizer.betas,
                epsilon=optimizer.epsilon,
                storage=storage,
            )
        case schema.AdafactorConfig():
            return Adafactor(parameters, storage=storage, **optimizer.model_dump(exclude={"kind"}))
        case _:
            assert_never(optimizer)


def state_format(keys: TrainConfig, weights: WeightStorage, seed: int) -> StateFormat:
    """How an optimizer stores what it keeps; arguments as of ``build_optimizer``."""
    return StateFormat(
        gradients=torch.bfloat16 if keys.gradients == "bfloat16" else torch.float32,
        moments=keys.moments,
        offload=keys.offload == "moments",
        rests=weights.rests,
        rounding_seed=stream_seed(seed, "rounding") if weights.format == "bfloat16-stochastic" else None,
    )


def hidden_matrices(model: nn.Module) -> list[str]:
    """Names of the two-dimensional weights inside the layers: no embedding, no head, no norm, no bias."""
    config: Any = model.config
    if config.is_encoder_decoder:
        stacks = [model.get_submodule(f"{stack}.block") for stack in ("encoder", "decoder")]
    else:
        stacks = [decoder_layers(model, "train.optimizer")]
    inside = {
        id(parameter)
        for stack in stacks
        for module in stack.modules()
        if not isinstance(module, nn.Embedding)  # T5 keeps its position biases in one
        for parameter in module.parameters(recurse=False)
        if parameter.ndim == 2
    }
    return [name for name, parameter in model.named_parameters() if id(parameter) in inside]
