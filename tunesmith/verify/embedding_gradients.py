"""Gradients with respect to the embedded tokens, by which the backward passes of two computations are compared.

Every path from a loss to the tokens passes through all layers, and no gradient of a weight is needed for it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tunesmith.model.wrapper import ModelWrapper

GRADIENT_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.02, torch.float16: 0.005}
"""Relative error of a gradient that the order of sums explains, by the format of the products; a fault of a kernel
changes it by 0.1 and more."""
GRADIENT_TOKENS = 300
"""Tokens of the longest text of which gradients are compared: three blocks of a kernel, and little memory."""
NOISE = 3.0
"""How many times the error of the stock model in the same format a gradient may have in addition."""
UNMEASURED = 0.025
"""That error where the weights have 16 bits, so that no exact gradient can be computed: two correct computations then
differ by 0.008 for each root of a layer, so by 0.07 in 80 layers."""


WrapperT = TypeVar("WrapperT", bound=ModelWrapper)


def in_float32(policy: WrapperT) -> WrapperT:
    """The same wrapper of the same model, computing in the format of the weights."""
    other = copy.copy(policy)
    other.compute = torch.float32
    return other


def gradients_of_embeddings(policy: ModelWrapper, loss: Callable[[], Tensor]) -> list[Tensor]:
    """d loss / d embedded tokens, one tensor for each time that the input embedding is used, in order.

    loss: computes a scalar with the model of ``policy``; no weight receives a gradient.
    Raises ValueError for a model that does not use its input embedding.
    """
    with torch.enable_grad(), _cut_embedding(policy.model) as leaves, policy.without_sums():
        value = loss()
        if not leaves:
            raise ValueError(f"{type(policy.model).__name__} does not read its input embedding")
        return list(torch.autograd.grad(value, leaves))


@contextmanager
def _cut_embedding(model: PreTrainedModel) -> Iterator[list[Tensor]]:
    """In the block the outputs of the input embedding begin the graph; they are listed in order."""
    leaves: list[Tensor] = []

    def cut(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        leaf = output.detach().requires_grad_()
        leaves.append(leaf)
        return leaf.clone()  # some families scale it in place

    # Encoder and decoder of T5 have a module each, with one weight; a tied head is another kind of module.
    embedding: nn.Module = model.get_input_embeddings()
    modules = [
        each
        for each in model.modules()
        if each is embedding or (isinstance(each, nn.Embedding) and each.weight is embedding.weight)
    ]
    handles = [each.register_forward_hook(cut) for each in modules]
    try:
        yield leaves
    finally:
        for handle in handles:
            handle.remove()


def add_rows(rows: int, parts: Sequence[Tensor], places: Sequence[Tensor]) -> Tensor:
    """float32 [rows, D], the sum of parts [n, D] at their places, int64 [n]."""
    total = torch.zeros(rows, parts[0].shape[-1], device=parts[0].device)
    for part, place in zip(parts, places, strict=True):
        total.index_add_(0, place.to(total.device), part.float())
    return total


def relative_error(found: Tensor, expected: Tensor) -> float:
    """The norm of the difference of two tensors over the norm of the second; NaN if there is any."""
    return float((found.float() - expected.float()).norm() / expected.float().norm().clamp_min(1e-30))


def allowed_error(compute: torch.dtype, noise: float, weights: torch.dtype = torch.float32) -> float:
    """The largest relative error of a gradient.

    noise: that of the stock model in the same format, 0 in float32.
    weights: their format; with 16 bits the noise could not be measured.
    """
    return GRADIENT_TOLERANCE[compute] + NOISE * (noise if weights == torch.float32 else max(noise, UNMEASURED))
