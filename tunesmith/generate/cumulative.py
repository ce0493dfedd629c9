"""Cumulative sums that are the same in every call, also on a GPU."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 256
"""The number of elements that one product with a triangular matrix adds up."""


def cumulative_sums(values: Tensor) -> Tensor:
    """The sum of all elements up to and with each one, along the last dimension; float of the shape of ``values``.

    PyTorch has no deterministic sum of this kind for floats on a GPU and refuses it where deterministic algorithms are
    asked for, see ``blocked_sums``.
    """
    return blocked_sums(values) if values.device.type == "cuda" else values.cumsum(dim=-1)


def blocked_sums(values: Tensor) -> Tensor:
    """The same by products with a triangular matrix, and never descending for values that are not negative."""
    size = values.shape[-1]
    blocks = torch.nn.functional.pad(values, (0, -size % BLOCK)).view(*values.shape[:-1], -1, BLOCK)
    inside = blocks @ values.new_ones(BLOCK, BLOCK).triu()
    if inside.shape[-2] > 1:
        before = torch.nn.functional.pad(blocked_sums(inside[..., -1]), (1, -1))
        inside = inside + before.unsqueeze(-1)
    sums: Tensor = inside.flatten(-2)[..., :size].cummax(dim=-1).values
    return sums
