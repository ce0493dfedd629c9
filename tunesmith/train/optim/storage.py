"""How optimizers store what they keep for every weight: float32 or less, on the device of the weight or on the host.

Updates are computed in float32, whatever is stored. Large tensors are updated part by part, so that only a part needs
float32 memory at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import Parameter

from tunesmith.draws import rounding_keys
from tunesmith.model.split import join, round_stochastically, split

PART = 1 << 24
"""Elements of a tensor that are updated at a time."""

BLOCK = 128
"""Elements of a moment that share a scale."""

Part = slice | None
"""A range of the flat elements of a tensor, which begins at a multiple of ``BLOCK``; None for the tensor as it is."""


@dataclass(frozen=True, slots=True)
class StateFormat:
    """How the weights and the state of an optimizer are stored. The defaults are float32 on the device of the weights.

    gradients: type in which the gradients of bfloat16 weights are added up.
    moments: see ``EightBitMoment``.
    offload: whether moments are kept in host memory.
    rests: parameter -> the rest of its weights; zeros where a bfloat16 parameter has none.
    rounding_seed: given, bfloat16 weights have no rest and are rounded stochastically.
    """

    gradients: torch.dtype = torch.float32
    moments: Literal["float32", "8bit"] = "float32"
    offload: bool = False
    rests: Mapping[Parameter, Tensor] = field(default_factory=dict)
    rounding_seed: int | None = None


def parts_of(count: int) -> list[slice]:
    """Ranges of at most ``PART`` elements that cover ``count``."""
    return [slice(start, min(start + PART, count)) for start in range(0, count, PART)]


def flat(tensor: Tensor, part: Part) -> Tensor:
    """A range of the elements of a contiguous tensor, or the tensor itself; the same memory."""
    return tensor if part is None else tensor.view(-1)[part]


class MasterWeights:
    """The exact weights of parameters, however they are stored. Optimizers read, change and write them here.

    A float32 parameter is its own master. A bfloat16 parameter is the upper half of its master, and the rest is part of
    the state; with a ``rounding_seed`` it is the master itself, and every ``write`` rounds stochastically.

    parameters: name -> parameter. Gradients of bfloat16 parameters get the type ``StateFormat.gradients``.
    """

    def __init__(self, parameters: Mapping[str, Parameter], storage: StateFormat) -> None:
        self.parameters, self.seed = parameters, storage.rounding_seed
        self.rests: dict[str, Tensor] = {}
        self.roundings: dict[str, Tensor] = {}
        for name, parameter in parameters.items():
            if parameter.dtype != torch.bfloat16:
                continue
            parameter.grad_dtype = storage.gradients
            if self.seed is None:
                rest = storage.rests.get(parameter)
                new = torch.zeros(parameter.shape, dtype=torch.int16)
                self.rests[name] = (new if rest is None else rest).to(parameter.device)
            else:
                self.roundings[name] = torch.zeros((), dtype=torch.int64)

    @property
    def are_parameters(self) -> bool:
        """Whether every parameter is its own master."""
        return not self.rests and not self.roundings

    def read(self, name: str, part: Part = None) -> Tensor:
        """The exact weights. Those of a float32 parameter are not copied, so that a change of them is effective."""
        stored = flat(self.parameters[name].detach(), part)
        if name in self.rests:
            return join(stored, flat(self.rests[name], part))
        return stored.float() if name in self.roundings else stored

    def write(self, name: str, weights: Tensor, part: Part = None) -> None:
        """Store weights that ``read`` returned and that were changed in place."""
        stored = flat(self.parameters[name].detach(), part)
        if name in self.rests:
            half, rest = split(weights)
            stored.copy_(half)
            flat(self.rests[name], part).copy_(rest)
        elif name in self.roundings:
            assert self.seed is not None
            keys = rounding_keys(self.seed, int(self.roundings[name]), name)
            stored.copy_(round_stochastically(weights, keys, part.start if part is not None else 0))

    def finish(self, name: str) -> None:
        """All parts of a parameter are written: its next rounding has other random bits."""
        if name in self.roundings:
            self.roundings[name] += 1

    def state_dict(self) -> dict[str, Tensor]:
        """``.rest`` of every split parameter, ``.roundings`` of every one that is rounded stochastically."""
        rests = {f"{name}{REST}": rest for name, rest in self.rests.items()}
        return rests | {f"{name}.roundings": count for name, count in self.roundings.items()}


REST = ".rest"
"""Ending of the names of rests in the state of an optimizer."""


class Moment(Protocol):
    """A running mean of one parameter."""

    def read(self, part: Part = None) -> Tensor:
        """float32 on the device of the parameter, in its shape or flat. It may be the stored tensor itself."""

    def write(self, values: Tensor, part: Part = None) -> None:
        """Store values that ``read`` returned and that were changed in place."""

    def tensors(self) -> dict[str, Tensor]:
        """Ending of a name in the state -> tensor."""


class Float32Moment:
    """A moment in float32. parameter: has its shape and device. offload: whether it is kept in host memory."""

    def __init__(self, parameter: Parameter, offload: bool) -> None:
        self.device, self.offload = parameter.device, offload
        like = torch.zeros_like(parameter, dtype=torch.float32, memory_format=torch.preserve_format)
        self.values = _host(like) if offload else like

    def read(self, part: Part = None) -> Tensor:
        return flat(self.values, part).to(self.device, non_blocking=True)

    def write(self, values: Tensor, part: Part = None) -> None:
        if self.offload:
            flat(self.values, part).copy_(values, non_blocking=True)

    def tensors(self) -> dict[str, Tensor]:
        return {"": self.values}


class EightBitMoment:
    """A moment in 8 bits an element, with one float32 scale for each block of ``BLOCK`` elements.

    The codes are evenly spaced on the square root of a signed moment, and on the fourth root of a second moment, so
    small elements next to large ones keep their size (Databricks 2026, arXiv 2602.23349; blocks: T. Dettmers et al.
    2021). A second moment above 0 never becomes 0, since the update divides by its root.

    parameter, offload: as of ``Float32Moment``.
    signed: whether it is a mean of gradients; False for a mean of squares.
    """

    def __init__(self, parameter: Parameter, offload: bool, *, signed: bool) -> None:
        self.device, self.signed = parameter.device, signed
        dtype = torch.int8 if signed else torch.uint8
        codes = torch.zeros(parameter.shape, dtype=dtype, device=self.device)
        scales = torch.zeros(-(-parameter.numel() // BLOCK), dtype=torch.float32, device=self.device)
        self.codes, self.scales = (_host(codes), _host(scales)) if offload else (codes, scales)

    def read(self, part: Part = None) -> Tensor:
        codes = flat(self.codes, part).to(self.device, non_blocking=True)
        scales = self.scales[_blocks(part)].to(self.device, non_blocking=True)
        return expand(codes.reshape(-1), scales, signed=self.signed).view(codes.shape)

    def write(self, values: Tensor, part: Part = None) -> None:
        codes, scales = compress(values.reshape(-1), signed=self.signed)
        flat(self.codes, part).copy_(codes.view(values.shape), non_blocking=True)
        self.scales[_blocks(part)].copy_(scales, non_blocking=True)

    def tensors(self) -> dict[str, Tensor]:
        return {"": self.codes, ".scale": self.scales}


def new_moment(parameter: Parameter, storage: StateFormat, *, signed: bool) -> Moment:
    """A moment of zeros. signed: see ``EightBitMoment``."""
    if storage.moments == "8bit":
        return EightBitMoment(parameter, storage.offload, signed=signed)
    return Float32Moment(parameter, storage.offload)


def compress(values: Tensor, *, signed: bool) -> tuple[Tensor, Tensor]:
    """(codes, scales) of float32 [n]: int8 or uint8 [n], and float32 [ceil(n / BLOCK)]."""
    blocks = torch.nn.functional.pad(values, (0, -len(values) % BLOCK)).view(-1, BLOCK)
    scales = blocks.abs().amax(1)
    shares = blocks / scales.clamp_min(torch.finfo(torch.float32).tiny)[:, None]
    if signed:
        codes = (shares.abs().sqrt_() * 127.0).round_().copysign_(shares).to(torch.int8)
    else:
        codes = (shares.sqrt().sqrt_() * 255.0).round_().clamp_min_(1.0).mul_(shares > 0).to(torch.uint8)
    return codes.view(-1)[: len(values)], scales


def expand(codes: Tensor, scales: Tensor, *, signed: bool) -> Tensor:
    """float32 [n] of (codes, scales) as ``compress`` returns them."""
    shares = torch.nn.functional.pad(codes.float(), (0, -len(codes) % BLOCK)).view(-1, BLOCK)
    if signed:
        shares = shares.div_(127.0)
        shares = shares * shares.abs()
    else:
        shares = shares.div_(255.0).square_().square_()
    return (shares * scales[:, None]).view(-1)[: len(codes)]


def synchronize(device: torch.device, storage: StateFormat) -> None:
    """Wait until moments that are copied to the host have arrived, so that the host may read them."""
    if storage.offload and device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()


def _blocks(part: Part) -> slice:
    return slice(None) if part is None else slice(part.start // BLOCK, -(-part.stop // BLOCK))


def _host(tensor: Tensor) -> Tensor:
    """Zeros in host memory, pinned for a GPU, with the shape and type of a tensor."""
    found = torch.zeros(tensor.shape, dtype=tensor.dtype)
    return found.pin_memory() if tensor.device.type == "cuda" else found
