"""The protocol of an optimizer, AdamW, and gradient clipping with its check for numbers that are not finite.

An optimizer is built from named parameters and its state consists of tensors only, so a checkpoint can store it as a
flat mapping and restore it bit for bit. The learning rate is an argument of each step; there are no parameter groups
that could differ from the recipe.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim.adamw import adamw

from tunesmith.errors import InternalError
from tunesmith.model.finite import find_not_finite
from tunesmith.model.local_rows import local_part, local_rows, sum_over_rows
from tunesmith.train.optim.storage import MasterWeights, Moment, StateFormat, new_moment, part_of, parts_of, synchronize

NORM_PART = 1 << 16
"""Elements of a part of a gradient whose norm is computed by itself."""


class Optimizer(Protocol):
    """What the training loop and the checkpoints need of an optimizer."""

    def step(self, learning_rate: float, scale: float = 1.0) -> None:
        """Update the parameters with ``scale`` times their gradients.

        The gradients are complete: summed over micro-batches and processes, and divided by the units of the step. A
        parameter without a gradient keeps its value and its state.

        learning_rate: of this step.
        scale: factor on every gradient, for clipping. It is applied while the gradients are read, and their values are
            not used after the call.
        """

    def zero_grad(self) -> None:
        """Drop all gradients."""

    def state_dict(self) -> dict[str, Tensor]:
        """The whole state under flat names (``<parameter>.exp_avg``): the tensors themselves, not copies."""


def trainable_parameters(parameters: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """The parameters with ``requires_grad``; a tied parameter once, under its first name, so it is updated once."""
    first: dict[int, str] = {}
    for name, parameter in parameters.items():
        if parameter.requires_grad:
            first.setdefault(id(parameter), name)
    return {name: parameters[name] for name in first.values()}


def make_contiguous(parameters: Mapping[str, Parameter]) -> None:
    """Store every parameter without gaps, so that ranges of its elements are ranges of memory."""
    for parameter in parameters.values():
        if not local_part(parameter).is_contiguous():
            parameter.data = parameter.data.contiguous()


def weight_and_gradient(parameter: Parameter) -> tuple[Tensor, Tensor]:
    """The rows of a parameter and of its gradient that this process has, in the same memory."""
    assert parameter.grad is not None
    return local_part(parameter), local_part(parameter.grad)


def drop_gradients(parameters: Mapping[str, Parameter]) -> None:
    """Set gradients to None instead of zero: the next backward pass then writes where it would have to add."""
    for parameter in parameters.values():
        parameter.grad = None


@dataclass(frozen=True, slots=True)
class _AdamWState:
    """AdamW's state of one parameter.

    exp_avg, exp_avg_sq: moving averages of the gradient and of its square.
    step: float32 scalar, updates of this parameter so far.
    """

    exp_avg: Moment
    exp_avg_sq: Moment
    step: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """Part of the state, without the name of the parameter -> tensor."""
        averages = {"exp_avg": self.exp_avg.tensors(), "exp_avg_sq": self.exp_avg_sq.tensors()}
        found = {f"{name}{ending}": tensor for name, each in averages.items() for ending, tensor in each.items()}
        return found | {"step": self.step}


class _Operands(NamedTuple):
    """Tensors that the fused kernel updates, of one parameter or of a part of it; all but ``step`` have one shape."""

    weight: Tensor
    gradient: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor
    step: Tensor


class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019), in one fused pass over each parameter.

    The arithmetic is torch's fused kernel, in float32 however weights and moments are stored. On a CPU it is three to
    four times as fast as the unfused forms, because it reads and writes every tensor once. It gives the same bits in
    every run with the same number of threads.

    parameters: name -> parameter. Frozen ones are left out, tied ones count once under their first name.
    betas, epsilon: as in torch.
    weight_decay: of parameters with two or more dimensions. Biases and the scales of norms have none, as in the trainer
        of transformers.
    storage: of weights and state.
    """

    def __init__(
        self,
        parameters: Mapping[str, Parameter],
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        storage: StateFormat = StateFormat(),  # noqa: B008 - it cannot be changed
    ) -> None:
        self.parameters = trainable_parameters(parameters)
        self.betas, self.epsilon, self.storage = betas, epsilon, storage
        self.masters = MasterWeights(self.parameters, storage)
        # Then one call of the kernel updates all parameters where they are.
        self.in_place = self.masters.are_parameters and storage.moments == "float32" and not storage.offload
        if not self.in_place:
            make_contiguous(self.parameters)
        self.state = {
            name: _AdamWState(
                new_moment(parameter, storage, signed=True),
                new_moment(parameter, storage, signed=False),
                torch.zeros((), dtype=torch.float32, device=parameter.device),
            )
            for name, parameter in self.parameters.items()
        }
        decayed = [name for name, parameter in self.parameters.items() if parameter.ndim >= 2 and weight_decay]
        others = [name for name in self.parameters if name not in set(decayed)]
        self.groups = [(names, decay) for names, decay in ((decayed, weight_decay), (others, 0.0)) if names]

    @torch.no_grad()
    def step(self, learning_rate: float, scale: float = 1.0) -> None:
        """See ``Optimizer.step``."""
        divisor = self._divisor(scale)
        for names, weight_decay in self.groups:
            present = [name for name in names if self.parameters[name].grad is not None]
            if self.in_place and present:
                self._update([self._operands(name) for name in present], learning_rate, weight_decay, divisor)
            elif present:
                for name in present:
                    self._update_in_parts(name, learning_rate, weight_decay, divisor)
                synchronize(self.parameters[present[0]].device, self.storage)

    def _divisor(self, scale: float) -> Tensor | None:
        """What the kernel divides gradients by (``grad_scale``). Filled on its device, since a copy would wait."""
        device = next((each.device for each in self.parameters.values()), None)
        return None if scale == 1.0 else torch.full((), 1.0 / scale, dtype=torch.float32, device=device)

    def _operands(self, name: str) -> _Operands:
        """The tensors of a whole parameter, none of which is a copy."""
        state, (weight, gradient) = self.state[name], weight_and_gradient(self.parameters[name])
        # The fused kernel walks through memory and ignores strides; autograd keeps them equal.
        assert gradient.stride() == weight.stride()
        return _Operands(weight, gradient, state.exp_avg.read(), state.exp_avg_sq.read(), state.step)

    def _update_in_parts(self, name: str, learning_rate: float, decay: float, divisor: Tensor | None) -> None:
        """Update one parameter, reading and writing a part of it at a time."""
        state, (_, found) = self.state[name], weight_and_gradient(self.parameters[name])
        gradient = found.contiguous()
        for part in parts_of(gradient):
            weight, average, square = (
                self.masters.read(name, part),
                state.exp_avg.read(part),
                state.exp_avg_sq.read(part),
            )
            # The kernel counts a step for every call.
            operands = _Operands(weight, part_of(gradient, part).float(), average, square, state.step.clone())
            self._update([operands], learning_rate, decay, divisor)
            self.masters.write(name, weight, part)
            state.exp_avg.write(average, part)
            state.exp_avg_sq.write(square, part)
        state.step.add_(1.0)
        self.masters.finish(name)

    def _update(
        self, operands: Sequence[_Operands], learning_rate: float, decay: float, divisor: Tensor | None
    ) -> None:
        adamw(
            [each.weight for each in operands],
            [each.gradient for each in operands],
            [each.exp_avg for each in operands],
            [each.exp_avg_sq for each in operands],
            [],
            [each.step for each in operands],
            grad_scale=divisor,
            fused=True,
            amsgrad=False,
            beta1=self.betas[0],
            beta2=self.betas[1],
            lr=learning_rate,
            weight_decay=decay,
            eps=self.epsilon,
            maximize=False,
        )

    def zero_grad(self) -> None:
        """See ``Optimizer.zero_grad``."""
        drop_gradients(self.parameters)

    def state_dict(self) -> dict[str, Tensor]:
        """See ``Optimizer.state_dict``: ``.exp_avg``, ``.exp_avg_sq`` and ``.step`` of every parameter, and rests."""
        moments = {
            f"{name}.{part}": tensor for name, each in self.state.items() for part, tensor in each.tensors().items()
        }
        return moments | self.masters.state_dict()


def gradient_norm(parameters: Mapping[str, Parameter]) -> Tensor:
    """Euclidean norm of all gradients together, a float scalar; 0 if there are none. Tied parameters count once.

    Of sharded parameters every process has some rows, so all processes have to call this.
    """
    gradients = [each.grad for each in trainable_parameters(parameters).values() if each.grad is not None]
    sharded = [gradient for gradient in gradients if local_rows(gradient) is not None]
    replicated = [gradient for gradient in gradients if local_rows(gradient) is None]
    if not sharded:
        return _local_norm(replicated)
    square = sum_over_rows(_local_norm([local_part(gradient) for gradient in sharded]).double().square(), sharded[0])
    return (square + _local_norm(replicated).to(square.device).square()).sqrt().float()


def _local_norm(gradients: list[Tensor]) -> Tensor:
    """Euclidean norm of tensors that this process has."""
    gradients = [part for gradient in gradients for part in _norm_parts(gradient)]
    if any(gradient.dtype != torch.float32 for gradient in gradients):  # torch would round the norms to 16 bits
        gradients = [torch.linalg.vector_norm(gradient, dtype=torch.float32) for gradient in gradients]
    return torch.nn.utils.get_total_norm(gradients, foreach=True) if gradients else torch.zeros(())


def _norm_parts(gradient: Tensor) -> tuple[Tensor, ...]:
    """The parts whose norms are computed by themselves.

    A CPU adds the squares of a tensor one after the other in float32; the norm of 26 million elements was 0.14 % too
    small, and is exact to 2e-7 in parts.
    """
    return torch.split(gradient.reshape(-1), NORM_PART) if gradient.is_cpu else (gradient,)


def check_finite(what: str, value: float | Tensor, step: int, *, where: str | None = None) -> None:
    """Raises InternalError for a loss or norm that is NaN or infinite. Called before the weights are updated.

    what: name of the value in the message.
    step: number of the optimizer step, from 1, as in the records.
    where: examples or parameter concerned.
    """
    number = float(value)
    if not math.isfinite(number):
        raise InternalError(
            f"{what} is {number} at step {step}",
            where=where,
            advice="the weights were not updated and the last checkpoint is valid; "
            "lower the learning rate, or look at the examples of this step",
        )


def clip_coefficient(
    parameters: Mapping[str, Parameter], limit: float | None, step: int, norm: Tensor | None = None
) -> tuple[float, float]:
    """(norm of all gradients together, factor that reduces it to ``limit``).

    The factor is ``min(1, limit / (norm + 1e-6))``, as in ``torch.nn.utils.clip_grad_norm_``.

    limit: largest norm; None or 0: the factor is 1.
    step: number of the optimizer step, from 1, as in the records.
    norm: the norm over all processes if it is known; computed here otherwise.
    Raises InternalError with the step and the first parameter concerned if the norm is not finite.
    """
    number = float(gradient_norm(parameters) if norm is None else norm)
    if not math.isfinite(number):
        check_finite("the gradient norm", number, step, where=_find_bad_gradient(parameters))
    return number, min(1.0, limit / (number + 1e-6)) if limit else 1.0


def _find_bad_gradient(parameters: Mapping[str, Parameter]) -> str | None:
    """Name of the first parameter whose gradient is not finite, in any process.

    Where all are finite, the squares of a large one overflow: then the name of the largest one in this process.
    """
    gradients = {name: each.grad for name, each in parameters.items() if each.grad is not None}
    return find_not_finite(gradients) or max(gradients, key=lambda name: _largest(gradients[name]), default=None)


def _largest(gradient: Tensor) -> float:
    part = local_part(gradient)
    return float(part.abs().max()) if part.numel() else 0.0
