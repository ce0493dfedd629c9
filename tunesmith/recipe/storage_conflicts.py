"""Conflicts between the keys for how weights, gradients and moments are stored, and with the keys that decide on them.

Weights in bfloat16 without a rest and without stochastic rounding cannot be asked for: updates smaller than half a step
of bfloat16 would be lost, which at the learning rates of fine-tuning are most of them.
"""

from __future__ import annotations

from collections.abc import Iterator

from tunesmith.recipe.section import Conflict
from tunesmith.recipe.training import AdafactorConfig, TrainConfig

SMALL_STATE = "and adafactor stores little: a row and a column of every large matrix"


def find_storage_conflicts(train: TrainConfig, dtype: str | None, *, adapted: bool = False) -> Iterator[Conflict]:
    """Ways to store weights, gradients and moments that cannot be combined.

    dtype: ``model.dtype``; None if the section of the model is invalid.
    adapted: whether adapters are trained, whose gradients are float32 whatever ``train.gradients`` is.
    """
    halves = train.gradients == "bfloat16" and not adapted
    if halves and train.weights == "float32":
        message = "gradients in bfloat16 are those of weights in bfloat16, and train.weights is float32"
        yield Conflict("train.gradients", message, ("train.weights=split", "train.gradients=float32"))
    if dtype not in (None, "bfloat16"):
        without = f"needs a forward pass in bfloat16, and model.dtype is {dtype}"
        if train.weights in ("split", "bfloat16-stochastic"):
            remedies = ("model.dtype=bfloat16", "train.weights=float32")
            yield Conflict("train.weights", f"{train.weights!r} {without}", remedies)
        elif halves and train.weights == "auto":
            remedies = ("model.dtype=bfloat16", "train.gradients=float32")
            yield Conflict("train.gradients", f"'bfloat16' {without}", remedies)
    if isinstance(train.optimizer, AdafactorConfig):
        if train.moments != "float32" and train.optimizer.beta1 is not None:  # its other moments are rows and columns
            message = f"{train.moments!r} is for adamw and muon, and the running mean of adafactor's beta1 is float32"
            yield Conflict("train.moments", message, ("train.moments=float32", "train.optimizer.beta1=null"))
        if train.offload != "none":
            message = f"{train.offload!r} are offloaded for adamw and muon, {SMALL_STATE}"
            yield Conflict("train.offload", message, ("train.offload=none",))


def find_unused_storage(train: TrainConfig, *, adapted: bool) -> Iterator[str]:
    """Keys of storage that have no effect here, each with the reason, for the user.

    They are no conflicts, since the layers for one GPU set them for any recipe.

    adapted: whether adapters are trained.
    """
    if adapted and train.gradients != "float32":
        reason = "with model.adapter the gradients are few, and float32"
        yield f"train.gradients={train.gradients} has no effect: {reason}"
    if isinstance(train.optimizer, AdafactorConfig) and train.moments != "float32":
        yield f"train.moments={train.moments} has no effect, {SMALL_STATE}, in float32"
