"""The useful floating-point operations of a training step, and the rate at which the machine multiplies matrices.

Useful are the operations that every implementation needs: 2 for each parameter of the linear layers below the head and
each token; in attention the causal half of 2 products; in the head 2 for each weight and *target*; and all of them
three times (forward pass, gradient of the inputs, gradient of the weights). Embeddings, norms, softmax, optimizer,
padding, recomputation and the logits of tokens that are not targets do not count.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import nn
from transformers import PreTrainedModel

PASSES = 3
SIDE = 2048  # rows and columns of the matrices whose product is timed


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The sizes of a causal model that determine its operations.

    matrices: the number of parameters of all linear layers below the head.
    head: vocabulary size times hidden size.
    hidden: the hidden size.
    layers: the number of layers.
    """

    matrices: int
    head: int
    hidden: int
    layers: int


def shape_of(model: PreTrainedModel) -> ModelShape:
    """The shape of a causal model of transformers."""
    head: nn.Linear = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    linear = [module for module in model.modules() if isinstance(module, nn.Linear) and module is not head]
    body = sum(int(module.weight.numel()) for module in linear)
    return ModelShape(body, head.weight.numel(), head.in_features, int(model.config.num_hidden_layers))


def useful_operations(shape: ModelShape, lengths: Sequence[int], targets: int) -> int:
    """The operations of one step on threads of these lengths with this number of targets."""
    body = 2 * shape.matrices * sum(lengths)
    # Query by key and probability by value: 2 * hidden operations each, for every pair of a query and a visible key.
    attention = shape.layers * sum(4 * shape.hidden * length * (length + 1) // 2 for length in lengths)
    return PASSES * (body + attention + 2 * shape.head * targets)


@dataclass(slots=True)
class MultiplicationRate:
    """Operations per second of float32 products of square matrices, measured between some of the steps."""

    rates: list[float] = field(default_factory=list)

    def measure(self, repeats: int = 2) -> None:
        """Time the product ``repeats`` times."""
        left, right = torch.rand(SIDE, SIDE), torch.rand(SIDE, SIDE)
        product = left @ right
        for _ in range(repeats):
            began = time.perf_counter()
            torch.mm(left, right, out=product)
            self.rates.append(2 * SIDE**3 / (time.perf_counter() - began))

    def median(self) -> float:
        """The median of all measurements, in operations per second."""
        return float(torch.tensor(self.rates, dtype=torch.float64).median())
