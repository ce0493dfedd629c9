"""Products of 16-bit matrices with a result in float32, where PyTorch has them.

The product adds up in float32 in any case. Rounded to bfloat16, a logit of 20 is wrong by up to 0.06, and every token
adds such an error to the log-probability of a reply.
"""

from __future__ import annotations

import torch
from torch import Tensor

SIXTEEN_BITS = (torch.bfloat16, torch.float16)
COLUMNS, ROWS = 256, 128
"""A CPU multiplies this many columns of the vocabulary at a time where there are at least so many rows: the same bits,
5 to 30 % faster than in one product (two threads, MKL; docs/log.md, 2026-11-29)."""


def gives_float32(states: Tensor) -> bool:
    """Whether ``logits_of`` these states come out of the product in float32: PyTorch offers it on CUDA only."""
    return states.dtype in SIXTEEN_BITS and states.device.type == "cuda"


def logits_of(states: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor | None = None) -> Tensor:
    """float32 [n, V], states @ weight.T + bias.

    states: [n, D].
    weight: [V, D] in the format of ``states``.
    bias: [V] in the format of ``states``, or None.
    out: [n, V] that the product may be written to: in float32 where ``gives_float32``, else in the format of
        ``states``; None for new memory.
    """
    if gives_float32(states):
        product = (
            torch.mm(states, weight.t(), out_dtype=torch.float32)
            if out is None
            else torch.mm(states, weight.t(), out_dtype=torch.float32, out=out)
        )
        return product if bias is None else product.add_(bias)
    if states.device.type != "cpu" or states.dtype != torch.float32 or len(states) < ROWS:
        return _multiply(states, weight, bias, out).float()
    found = states.new_empty(len(states), len(weight)) if out is None else out
    for begin in range(0, len(weight), COLUMNS):
        part = slice(begin, begin + COLUMNS)
        _multiply(states, weight[part], None if bias is None else bias[part], found[:, part])
    return found


def _multiply(states: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor | None) -> Tensor:
    """[n, V] in the format of ``states``. Arguments as of ``logits_of``; ``out`` has that format, and may be a view."""
    return torch.mm(states, weight.t(), out=out) if bias is None else torch.addmm(bias, states, weight.t(), out=out)


def accumulator(parameter: Tensor) -> torch.dtype:
    """The format in which a gradient is added up over chunks: float32 also where the parameter has 16 bits."""
    return torch.float32 if parameter.dtype in SIXTEEN_BITS else parameter.dtype
