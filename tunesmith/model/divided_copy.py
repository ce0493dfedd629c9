"""Copies of a divided model: every process copies the rows that it has, and no process ever has all of them."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from transformers import PreTrainedModel
from transformers.initialization import no_init_weights

from tunesmith.model.load import finalize
from tunesmith.model.local_rows import local_part
from tunesmith.model.opening import OpenedModel
from tunesmith.model.shard import ShardedModel

RECOMPUTATION = ("gradient_checkpointing", "_gradient_checkpointing_func")
"""Attributes with which modules recompute activations."""


@torch.no_grad()
def copy_divided(
    model: PreTrainedModel, root: ShardedModel, part: Callable[[PreTrainedModel], PreTrainedModel]
) -> OpenedModel:
    """A copy of a part of a divided model with its present weights, divided alike. All processes make it together.

    root: of the model.
    part: the model itself, or its body.
    """
    with no_init_weights():  # nothing is written, so this takes no memory before it is divided
        made: PreTrainedModel = type(model)(copy.deepcopy(model.config))
    finalize(made)
    made.train(False)
    original, copied = part(model), part(made)
    for old, new in zip(original.modules(), copied.modules(), strict=True):
        for name in RECOMPUTATION:
            if hasattr(old, name):
                setattr(new, name, getattr(old, name))
    found = OpenedModel(copied, root.division.divide(copied))
    numbers = original.state_dict()
    for name, tensor in copied.state_dict().items():
        local_part(tensor).copy_(local_part(numbers[name]))
    return found
