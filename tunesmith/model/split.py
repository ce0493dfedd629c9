"""Weights in bfloat16 that lose nothing: the 16 bits that a float32 number has beyond its bfloat16 are kept apart.

A float32 number is the bfloat16 nearest to it plus a rest of 16 bits. The model computes with the bfloat16, which takes
half the memory and needs no casts, and the optimizer updates the exact float32 number. The same split is
``store_param_remainders`` of NVIDIA's FusedAdam. The second way, without a rest, rounds up or down at random, so that
small updates are right on average (P. Zamirai et al. 2020, "Revisiting BFloat16 training").
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn

WeightFormat = Literal["float32", "split", "bfloat16-stochastic"]

HALF = 1 << 15
LOW = (1 << 16) - 1
MULTIPLIERS = (-2048144789, -1028477387)
"""0x85EBCA6B and 0xC2B2AE35 as signed numbers: the finalizer of MurmurHash3 (Appleby 2011)."""


def split(values: Tensor) -> tuple[Tensor, Tensor]:
    """(bfloat16, int16) of float32 values, in their shape: the nearest bfloat16, ties away from zero, and the rest.

    ``join`` restores every finite number exactly. NaN stays NaN, without its payload.
    """
    bits = values.contiguous().view(torch.int32)
    upper = (bits + HALF) >> 16
    rest = bits - (upper << 16)
    return _keep_nan(upper, values), rest.to(torch.int16)


def join(halves: Tensor, rests: Tensor) -> Tensor:
    """float32 values whose ``split`` is (halves, rests)."""
    upper = halves.contiguous().view(torch.int16).to(torch.int32) << 16
    return (upper + rests).view(torch.float32)


def round_stochastically(values: Tensor, keys: tuple[int, int], start: int = 0) -> Tensor:
    """bfloat16 of float32 values: each is rounded up with the probability that makes its mean exact.

    The random bits of an element are a function of the keys and its place alone, so they are the same on every device.

    values: float32, any shape.
    keys: numbers of 32 bits, with a sign.
    start: place of the first element.
    """
    bits = values.contiguous().view(torch.int32)
    place = torch.arange(start, start + values.numel(), dtype=torch.int32, device=values.device).view(values.shape)
    random = _hashed(_hashed(place ^ keys[0]) + keys[1]) & LOW
    return _keep_nan((bits + random) >> 16, values)


def _hashed(words: Tensor) -> Tensor:
    """The finalizer of MurmurHash3 on int32, whose products wrap: every bit of a word moves half of the bits."""
    words = words ^ ((words >> 16) & LOW)
    words = words * MULTIPLIERS[0]
    words = words ^ ((words >> 13) & (LOW << 3 | 7))
    words = words * MULTIPLIERS[1]
    return words ^ ((words >> 16) & LOW)


def _keep_nan(upper: Tensor, values: Tensor) -> Tensor:
    """bfloat16 with the given upper 16 bits, int32; the rounding of a NaN could overflow into a number."""
    halves = upper.to(torch.int16).view(torch.bfloat16)
    return halves.masked_fill_(values.isnan(), torch.nan)


class WeightStorage:
    """How the trainable weights of the models of a run are stored.

    format: float32 leaves models as they are; split keeps a rest for every weight; bfloat16-stochastic keeps none.
    rests: parameter -> int16 of its shape, for every parameter that was split.
    """

    def __init__(self, format: WeightFormat = "float32") -> None:
        self.format: WeightFormat = format
        self.rests: dict[nn.Parameter, Tensor] = {}

    @torch.no_grad()
    def store(self, model: nn.Module) -> None:
        """Change the trainable float32 weights of a model in place. Buffers and frozen weights keep their type."""
        if self.format == "float32":
            return
        for parameter in _in_format(model.parameters(), torch.float32):
            if parameter.requires_grad:
                parameter.data, rest = split(parameter.data)
                if self.format == "split":
                    self.rests[parameter] = rest

    @torch.no_grad()
    def store_frozen(self, model: nn.Module) -> None:
        """Change all float32 weights of a model that is not trained, in place, so that it computes like the others."""
        if self.format != "float32":
            for parameter in _in_format(model.parameters(), torch.float32):
                parameter.data = split(parameter.data)[0]


def widen(model: nn.Module) -> None:
    """Change all weights in bfloat16 to float32, in place. Their rests are not added: load the exact weights next."""
    for parameter in _in_format(model.parameters(), torch.bfloat16):
        parameter.grad = None
        parameter.data = parameter.data.float()
        parameter.grad_dtype = torch.float32


def _in_format(parameters: Iterable[nn.Parameter], dtype: torch.dtype) -> list[nn.Parameter]:
    return [parameter for parameter in parameters if parameter.dtype == dtype]
