"""Optimizer and learning-rate schedule of a recipe."""

from __future__ import annotations

from typing import Any, assert_never

from torch import nn
from transformers import PreTrainedModel

from tunesmith.model.dropout import decoder_layers
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


def build_schedule(keys: TrainConfig, total: int) -> Schedule:
    """The learning rate of every step. total: steps of the whole run."""
    rate, schedule = keys.learning_rate, keys.schedule
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


def build_optimizer(keys: TrainConfig, policy: Trainable, model: PreTrainedModel) -> Optimizer:
    """The optimizer of all parameters of a policy. model: Muon takes the weight matrices of its layers."""
    parameters, optimizer = policy.parameters(), keys.optimizer
    match optimizer:
        case schema.AdamWConfig():
            return AdamW(
                parameters, betas=optimizer.betas, epsilon=optimizer.epsilon, weight_decay=optimizer.weight_decay
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
            )
        case schema.AdafactorConfig():
            return Adafactor(parameters, **optimizer.model_dump(exclude={"kind"}))
        case _:
            assert_never(optimizer)


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
