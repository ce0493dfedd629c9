"""How optimizers store what they keep for every weight: float32 or less, on the device of the weight or on the host.

Updates are computed in float32, whatever is stored. Large tensors are updated part by part, so that only a part needs
float32 memory at a time. Of a sharded parameter every process stores what belongs to its rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import Parameter

from tunesmith.draws import rounding_keys
from tunesmith.model.local_rows import as_rows_of, local_part, local_rows, own_rows, row_size
from tunesmith.model.split import join, round_stochastically, split

PART = 1 << 24
"""Elements of a tensor that are updated at a time, but at least one row."""

BLOCK = 128
"""Elements of a moment that share a scale. Blocks lie inside a row, so they do not depend on how rows are divided."""

Part = slice | None
"""A range of the rows that this process has of a tensor; None for all of them."""


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


def parts_of(tensor: Tensor) -> list[slice]:
    """Ranges of rows with at most ``PART`` elements, but at least one row, that cover a tensor.

    A range has a multiple of 64 rows if it can: AdamW's kernel rounds elements behind its last vector in another way.
    """
    count, step = max(1, len(tensor) if tensor.ndim else 1), max(1, PART // max(1, row_size(tensor)))
    step -= step % 64 if step >= 64 else 0
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]


def part_of(tensor: Tensor, part: Part) -> Tensor:
    """Some rows of a tensor, or the tensor itself; the same memory. The only element of a scalar is its row."""
    return tensor if part is None else (tensor if tensor.ndim else tensor.view(-1))[part]


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
                new = torch.zeros(local_part(parameter).shape, dtype=torch.int16)
                self.rests[name] = (new if rest is None else own_rows(rest, parameter)).to(parameter.device)
            else:
                self.roundings[name] = torch.zeros((), dtype=torch.int64)

    @property
    def are_parameters(self) -> bool:
        """Whether every parameter is its own master."""
        return not self.rests and not self.roundings

    def read(self, name: str, part: Part = None) -> Tensor:
        """The exact weights. Those of a float32 parameter are not copied, so that a change of them is effective."""
        stored = part_of(local_part(self.parameters[name]), part)
        if name in self.rests:
            return join(stored, part_of(self.rests[name], part))
        return stored.float() if name in self.roundings else stored

    def write(self, name: str, weights: Tensor, part: Part = None) -> None:
        """Store weights that ``read`` returned and that were changed in place."""
        parameter = self.parameters[name]
        stored = part_of(local_part(parameter), part)
        if name in self.rests:
            half, rest = split(weights)
            stored.copy_(half)
            part_of(self.rests[name], part).copy_(rest)
        elif name in self.roundings:
            assert self.seed is not None
            keys = rounding_keys(self.seed, int(self.roundings[name]), name)
            rows = local_rows(parameter)
            first = (rows.first if rows is not None else 0) + (part.start if part is not None else 0)
            stored.copy_(round_stochastically(weights, keys, first * row_size(parameter)))

    def finish(self, name: str) -> None:
        """All parts of a parameter are written: its next rounding has other random bits."""
        if name in self.roundings:
            self.roundings[name] += 1

    def state_dict(self) -> dict[str, Tensor]:
        """``.rest`` of every split parameter, ``.roundings`` of every one that is rounded stochastically."""
        rests = {f"{name}{REST}": as_rows_of(rest, self.parameters[name]) for name, rest in self.rests.items()}
        return rests | {f"{name}.roundings": count for name, count in self.roundings.items()}


REST = ".rest"
"""Ending of the names of rests in the state of an optimizer."""


class Moment(Protocol):
    """A running mean of one parameter; of a sharded one, what belongs to the rows of this process."""

    def read(self, part: Part = None) -> Tensor:
        """float32 on the device of the parameter, in the shape of the rows. It may be the stored tensor itself."""

    def write(self, values: Tensor, part: Part = None) -> None:
        """Store values that ``read`` returned and that were changed in place."""

    def tensors(self) -> dict[str, Tensor]:
        """Ending of a name in the state -> tensor, sharded as the parameter is."""


class Float32Moment:
    """A moment in float32. parameter: has its shape and device. offload: whether it is kept in host memory."""

    def __init__(self, parameter: Parameter, offload: bool) -> None:
        self.parameter, self.device, self.offload = parameter, parameter.device, offload
        like = torch.zeros_like(local_part(parameter), dtype=torch.float32, memory_format=torch.preserve_format)
        self.values = _host(like) if offload else like

    def read(self, part: Part = None) -> Tensor:
        return part_of(self.values, part).to(self.device, non_blocking=True)

    def write(self, values: Tensor, part: Part = None) -> None:
        if self.offload:
            part_of(self.values, part).copy_(values, non_blocking=True)

    def tensors(self) -> dict[str, Tensor]:
        return {"": as_rows_of(self.values, self.parameter)}


class EightBitMoment:
    """A moment in 8 bits an element, with one float32 scale for each block of at most ``BLOCK`` elements of a row.

    The codes are evenly spaced on the square root of a signed moment, and on the fourth root of a second moment, so
    small elements next to large ones keep their size (Databricks 2026, arXiv 2602.23349; blocks: T. Dettmers et al.
    2021). A second moment above 0 never becomes 0, since the update divides by its root.

    parameter, offload: as of ``Float32Moment``. It has at least two dimensions.
    signed: whether it is a mean of gradients; False for a mean of squares.
    """

    def __init__(self, parameter: Parameter, offload: bool, *, signed: bool) -> None:
        self.parameter, self.device, self.signed = parameter, parameter.device, signed
        local = local_part(parameter)
        codes = torch.zeros(local.shape, dtype=torch.int8 if signed else torch.uint8, device=self.device)
        blocks = -(-row_size(local) // BLOCK)
        scales = torch.zeros(len(local), blocks, dtype=torch.float32, device=self.device)
        self.codes, self.scales = (_host(codes), _host(scales)) if offload else (codes, scales)

    def read(self, part: Part = None) -> Tensor:
        codes = part_of(self.codes, part).to(self.device, non_blocking=True)
        scales = part_of(self.scales, part).to(self.device, non_blocking=True)
        return expand(codes.flatten(1), scales, signed=self.signed).reshape(codes.shape)

    def write(self, values: Tensor, part: Part = None) -> None:
        codes, scales = compress(values.flatten(1), signed=self.signed)
        part_of(self.codes, part).copy_(codes.reshape(values.shape), non_blocking=True)
        part_of(self.scales, part).copy_(scales, non_blocking=True)

    def tensors(self) -> dict[str, Tensor]:
        return {"": as_rows_of(self.codes, self.parameter), ".scale": as_rows_of(self.scales, self.parameter)}


def new_moment(parameter: Parameter, storage: StateFormat, *, signed: bool) -> Moment:
    """A moment of zeros. Vectors have few elements, and keep float32. signed: see ``EightBitMoment``."""
    if storage.moments == "8bit" and parameter.ndim >= 2:
        return EightBitMoment(parameter, storage.offload, signed=signed)
    return Float32Moment(parameter, storage.offload)


def compress(values: Tensor, *, signed: bool) -> tuple[Tensor, Tensor]:
    """(codes, scales) of float32 [R, n]: int8 or uint8 [R, n], and float32 [R, ceil(n / BLOCK)]."""
    blocks = _in_blocks(values)
    scales = blocks.abs().amax(2)
    shares = blocks / scales.clamp_min(torch.finfo(torch.float32).tiny)[:, :, None]
    if signed:
        codes = (shares.abs().sqrt_() * 127.0).round_().copysign_(shares).to(torch.int8)
    else:
        codes = (shares.sqrt().sqrt_() * 255.0).round_().clamp_min_(1.0).mul_(shares > 0).to(torch.uint8)
    return codes.flatten(1)[:, : values.shape[1]], scales


def expand(codes: Tensor, scales: Tensor, *, signed: bool) -> Tensor:
    """float32 [R, n], contiguous, of (codes, scales) as ``compress`` returns them."""
    shares = _in_blocks(codes.float())
    if signed:
        shares = shares.div_(127.0)
        shares = shares * shares.abs()
    else:
        shares = shares.div_(255.0).square_().square_()
    return (shares * scales[:, :, None]).flatten(1)[:, : codes.shape[1]].contiguous()


def _in_blocks(values: Tensor) -> Tensor:
    """[R, blocks, elements of a block] of [R, n], with zeros behind the last element of a row."""
    rows, columns = values.shape
    width = max(1, min(columns, BLOCK))
    padded = torch.nn.functional.pad(values, (0, -columns % width)) if columns % width else values
    return padded.reshape(rows, -(-columns // width), width)


def synchronize(device: torch.device, storage: StateFormat) -> None:
    """Wait until moments that are copied to the host have arrived, so that the host may read them."""
    if storage.offload and device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()


def _host(tensor: Tensor) -> Tensor:
    """Zeros in host memory, pinned for a GPU, with the shape and type of a tensor."""
    found = torch.zeros(tensor.shape, dtype=tensor.dtype)
    return found.pin_memory() if tensor.device.type == "cuda" else found
