"""Adafactor with the semantics of t5x: the second moment of a matrix is stored as one row and one column.

N. Shazeer and M. Stern 2018, "Adafactor: adaptive learning rates with sublinear memory cost", in the form in which t5x
fine-tunes T5: the update is relative to the scale of the parameter, and the decay of the second moment depends on the
step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import Parameter

from tunesmith.errors import RecipeError
from tunesmith.model.local_rows import as_rows_of, local_part, local_rows, sum_over_rows
from tunesmith.train.optim.optimizers import (
    drop_gradients,
    trainable_parameters,
    weight_and_gradient,
)
from tunesmith.train.optim.storage import MasterWeights, StateFormat

Dimensions = tuple[int, ...]
Part = Literal["row", "column", "batch", "none"]

AXIS_PARTS: Mapping[str, Part] = {
    "vocab": "column",
    "embed": "row",
    "mlp": "column",
    "heads": "column",
    "kv": "column",
    "joined_kv": "column",
    "relpos_buckets": "none",
    "layers": "batch",
    "stack": "batch",
}
"""Name of an axis -> its part in factoring (t5x, ``standard_logical_factor_rules``)."""

STEP = "step"
"""Name of the step counter in the state."""


@dataclass(frozen=True, slots=True)
class Factoring:
    """How the second moment of one parameter is stored.

    rows, columns: dimensions of the parameter that are factored; both empty: the moment is stored whole.
    averaged: dimensions over which the root mean square of parameter and update is taken: all but those along which
        separate layers are stacked.
    """

    rows: Dimensions
    columns: Dimensions
    averaged: Dimensions


def factoring(shape: Sequence[int], axes: Sequence[str] | None = None, min_dim_size: int = 128) -> Factoring:
    """How t5x factors a parameter of this shape.

    A matrix (every parameter of T5 in transformers), or a tensor without names, is factored along its two largest
    dimensions if both have at least ``min_dim_size`` entries.

    axes: names of the dimensions, where they are known. They decide for stacked layers and for tensors of three and
        more dimensions, whatever their size.
    Raises KeyError for an unknown axis.
    """
    every = tuple(range(len(shape)))
    parts = [AXIS_PARTS[axis] for axis in axes or ()]
    if parts and (len(shape) > 2 or "batch" in parts):
        rows, columns, batch = (
            tuple(index for index, part in enumerate(parts) if part == wanted) for wanted in ("row", "column", "batch")
        )
        averaged = tuple(index for index in every if index not in batch)
        return Factoring(rows, columns, averaged) if rows and columns else Factoring((), (), averaged)
    by_size = sorted(every, key=lambda index: shape[index])
    if len(shape) < 2 or shape[by_size[-2]] < min_dim_size:
        return Factoring((), (), every)
    return Factoring((by_size[-2],), (by_size[-1],), every)


def _mean(local: Tensor, dimensions: Dimensions, parameter: Parameter) -> Tensor:
    """Mean over ``dimensions``, which stay as dimensions of one entry; over dimension 0 it is that of all rows.

    local: belongs to the rows that this process has of ``parameter``.
    """
    if not dimensions:
        return local
    if local_rows(parameter) is None or 0 not in dimensions:
        return local.mean(dimensions, keepdim=True)
    count = math.prod(parameter.shape[0] if index == 0 else local.shape[index] for index in dimensions)
    return sum_over_rows(local.sum(dimensions, keepdim=True), parameter).div_(count)


def _rms(local: Tensor, dimensions: Dimensions, parameter: Parameter) -> Tensor:
    """Root mean square, otherwise as ``_mean``."""
    return _mean(local.square(), dimensions, parameter).sqrt()


class Adafactor:
    """The Adafactor of t5x. With the step t, counted from 0, and ``b = 1 - (t + 1) ** -decay_rate``:

    v <- b v + (1 - b) (g^2 + epsilon1), whole or as means over columns (v_row) and rows (v_column);
    y = g / sqrt(v), or g / sqrt(v_row / mean(v_row)) / sqrt(v_column); y <- y / max(1, RMS(y) / clipping_threshold);
    d = learning_rate max(RMS(w), epsilon2) y; with ``beta1``: m <- beta1 m + (1 - beta1) d, and d = m;
    w <- (1 - weight_decay learning_rate ** weight_decay_exponent) w - d.

    Everything is computed in float32 however weights are stored. The state of a parameter is ``.v_row`` and
    ``.v_column``, whose averaged dimensions have one entry, or ``.v``; with ``beta1`` also ``.m``. One ``step`` counts
    for all parameters. Of a sharded parameter every process updates its rows, and means over rows are summed over the
    processes; what is averaged over rows is the same in all of them.

    parameters: name -> parameter.
    factored: False stores every second moment whole.
    min_dim_size_to_factor: see ``factoring``.
    axes: parameter -> names of its dimensions, see ``factoring``.
    multiply_by_parameter_scale: whether the update is multiplied by max(RMS(w), epsilon2).
    largest_parameter_scale: upper limit of that factor; None: there is none.
    clipping_threshold: largest RMS of y; None: y is not clipped.
    decay_rate: exponent in b.
    initial_step, step_offset: t begins at ``initial_step - step_offset``. t5x continues the step count of pretraining,
        so at t = 1.1 million new gradients hardly change v (b = 0.99998...); an equal offset restarts the count at 0.
    beta1: decay of the first moment; None: there is none.
    weight_decay, weight_decay_exponent: see the last formula.
    epsilon1, epsilon2: of the squared gradient and of the parameter scale.
    storage: of the weights; the state is always float32 on the device of the weights.
    Raises RecipeError if ``step_offset`` is above ``initial_step``: t5x then computes NaN.
    """

    def __init__(
        self,
        parameters: Mapping[str, Parameter],
        *,
        factored: bool = True,
        min_dim_size_to_factor: int = 128,
        axes: Mapping[str, Sequence[str]] | None = None,
        multiply_by_parameter_scale: bool = True,
        largest_parameter_scale: float | None = None,
        clipping_threshold: float | None = 1.0,
        decay_rate: float = 0.8,
        initial_step: int = 0,
        step_offset: int = 0,
        beta1: float | None = None,
        weight_decay: float = 0.0,
        weight_decay_exponent: float = 0.0,
        epsilon1: float = 1e-30,
        epsilon2: float = 1e-3,
        storage: StateFormat = StateFormat(),  # noqa: B008 - it cannot be changed
    ) -> None:
        if step_offset > initial_step:
            raise RecipeError(
                f"step_offset {step_offset:,} is above initial_step {initial_step:,}: the first step would have a "
                "negative number",
                where="train.optimizer.step_offset",
                advice="set it to initial_step to restart the count at 0, or to 0 to continue it",
            )
        self.parameters = trainable_parameters(parameters)
        self.masters = MasterWeights(self.parameters, storage)
        self.min_dim_size_to_factor, self.decay_rate, self.beta1 = min_dim_size_to_factor, decay_rate, beta1
        self.scaled, self.largest_scale = multiply_by_parameter_scale, largest_parameter_scale
        self.clipping_threshold, self.epsilon1, self.epsilon2 = clipping_threshold, epsilon1, epsilon2
        self.weight_decay, self.weight_decay_exponent = weight_decay, weight_decay_exponent
        min_dim_size = min_dim_size_to_factor if factored else 2**63
        named = axes if axes is not None and factored else {}
        self.factorings = {
            name: factoring(parameter.shape, named.get(name), min_dim_size)
            for name, parameter in self.parameters.items()
        }
        self.count = torch.tensor(initial_step - step_offset, dtype=torch.int64)
        self.state = {name: self._initial_state(parameter, name) for name, parameter in self.parameters.items()}

    def _initial_state(self, parameter: Parameter, name: str) -> dict[str, Tensor]:
        how = self.factorings[name]

        def zeros(averaged: Dimensions) -> Tensor:
            shape = [1 if index in averaged else size for index, size in enumerate(local_part(parameter).shape)]
            return torch.zeros(shape, dtype=torch.float32, device=parameter.device)

        moments = {"v_row": zeros(how.columns), "v_column": zeros(how.rows)} if how.rows else {"v": zeros(())}
        return moments | ({"m": zeros(())} if self.beta1 is not None else {})

    @torch.no_grad()
    def step(self, learning_rate: float, scale: float = 1.0) -> None:
        """See ``Optimizer.step``."""
        weight = float(self.count + 1) ** -self.decay_rate  # 1 - b
        decay = 1.0 - self.weight_decay * learning_rate**self.weight_decay_exponent
        for name, parameter in self.parameters.items():
            if parameter.grad is None:
                continue
            moments, gradient = self.state[name], weight_and_gradient(parameter)[1].float()
            update = self._update(name, gradient * scale if scale != 1.0 else gradient, weight)
            master = self.masters.read(name)
            update *= self._scale(name, master.float()) * learning_rate
            if self.beta1 is not None:
                update = moments["m"].lerp_(update, 1.0 - self.beta1)
            if decay != 1.0:
                master.mul_(decay)
            master.sub_(update)
            self.masters.write(name, master)
            self.masters.finish(name)
        self.count += 1

    def _update(self, name: str, gradient: Tensor, weight: float) -> Tensor:
        """Update the second moment with ``weight`` (1 - b); returns y, the normalised and clipped gradient."""
        how, moments, parameter = self.factorings[name], self.state[name], self.parameters[name]
        square = gradient.square().add_(self.epsilon1)
        if how.rows:
            row, column = moments["v_row"], moments["v_column"]
            row.lerp_(_mean(square, how.columns, parameter), weight)
            column.lerp_(_mean(square, how.rows, parameter), weight)
            share = row / _mean(row, how.rows, parameter)
            update = gradient * share.rsqrt() * column.rsqrt()
        else:
            update = gradient * moments["v"].lerp_(square, weight).rsqrt()
        if self.clipping_threshold is not None:
            update /= (_rms(update, how.averaged, parameter) / self.clipping_threshold).clamp_min(1.0)
        return update

    def _scale(self, name: str, master: Tensor) -> Tensor | float:
        """The factor max(RMS(w), epsilon2), within its upper limit."""
        if not self.scaled:
            return 1.0
        return _rms(master, self.factorings[name].averaged, self.parameters[name]).clamp(
            self.epsilon2, self.largest_scale
        )

    def _averages_rows(self, name: str, part: str) -> bool:
        """Whether a part of the state is a mean over dimension 0, and so the same for all rows."""
        how = self.factorings[name]
        return 0 in {"v_row": how.columns, "v_column": how.rows}.get(part, ())

    def zero_grad(self) -> None:
        """See ``Optimizer.zero_grad``."""
        drop_gradients(self.parameters)

    def state_dict(self) -> dict[str, Tensor]:
        """See ``Optimizer.state_dict``."""
        moments = {
            f"{name}.{part}": tensor if self._averages_rows(name, part) else as_rows_of(tensor, self.parameters[name])
            for name, each in self.state.items()
            for part, tensor in each.items()
        }
        return moments | self.masters.state_dict() | {STEP: self.count}
