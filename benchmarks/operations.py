"""Useful floating-point operations of a training step, and what the machine can do.

Counted is what training needs whoever does it: every matrix of the body 2 operations a parameter and token, attention
the causal half of 2 products, the head 2 operations a weight and *target*, and all that three times (forward, gradient
of the input, gradient of the weights). Embeddings, norms, softmax, optimizer, padding, recomputation and logits of
tokens that are no targets count nothing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import nn
from transformers import PreTrainedModel

PASSES = 3
SIDE = 2048  # of the square matrices whose product is timed


@dataclass(frozen=True, slots=True)
class Shape:
    """matrices: parameters of all linear layers below the head. head: vocabulary times hidden size."""

    matrices: int
    head: int
    hidden: int
    layers: int


def shape_of(model: PreTrainedModel) -> Shape:
    """The shape of a causal model of transformers."""
    head: nn.Linear = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    linear = [module for module in model.modules() if isinstance(module, nn.Linear) and module is not head]
    body = sum(int(module.weight.numel()) for module in linear)
    return Shape(body, head.weight.numel(), head.in_features, int(model.config.num_hidden_layers))


def useful_operations(shape: Shape, lengths: Sequence[int], targets: int) -> int:
    """Operations of one step on threads of these lengths with so many targets."""
    body = 2 * shape.matrices * sum(lengths)
    # Query by key and probability by value: each 2 * hidden operations for every pair of a token and one it sees.
    attention = shape.layers * sum(4 * shape.hidden * length * (length + 1) // 2 for length in lengths)
    return PASSES * (body + attention + 2 * shape.head * targets)


@dataclass(slots=True)
class MultiplicationRate:
    """Operations a second of float32 products of square matrices, measured now and then between steps."""

    rates: list[float] = field(default_factory=list)

    def measure(self, repeats: int = 2) -> None:
        left, right = torch.rand(SIDE, SIDE), torch.rand(SIDE, SIDE)
        product = left @ right
        for _ in range(repeats):
            began = time.perf_counter()
            torch.mm(left, right, out=product)
            self.rates.append(2 * SIDE**3 / (time.perf_counter() - began))

    def median(self) -> float:
        return float(torch.tensor(self.rates, dtype=torch.float64).median())
