"""Optimizers with a small protocol of our own, and the guard that stands before every step.

An optimizer is built from named parameters and holds nothing but tensors, so that its state is a flat mapping that a
checkpoint stores and restores to the bit. The learning rate comes with each step; there are no parameter groups to
drift away from the recipe.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim.adamw import adamw

from tunesmith.errors import InternalError, StorageError


class Optimizer(Protocol):
    """What the training loop needs."""

    def step(self, learning_rate: float, scale: float = 1.0) -> None:
        """Move the parameters along ``scale`` times their gradients, which are complete: summed and divided.

        Clipping comes as ``scale``, so that an optimizer can apply it while it reads the gradients, whose values are not
        used afterwards. A parameter without a gradient stays as it is, and so does its state.
        """

    def zero(self) -> None:
        """Drop all gradients."""

    def tensors(self) -> dict[str, Tensor]:
        """The whole state under flat names (``<parameter>.exp_avg``): the living tensors, not copies."""

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over a state that ``tensors`` gave, bit for bit. Raises StorageError unless names, shapes and types agree."""


def trainable(parameters: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """The parameters that want a gradient, each once under its first name: tied parameters must not be moved twice."""
    first: dict[int, str] = {}
    for name, parameter in parameters.items():
        if parameter.requires_grad:
            first.setdefault(id(parameter), name)
    return {name: parameters[name] for name in first.values()}


def drop_gradients(parameters: Mapping[str, Parameter]) -> None:
    """Forget gradients instead of filling them with zeros: the next backward pass then writes where it would add."""
    for parameter in parameters.values():
        parameter.grad = None


def load_into(state: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Copy ``tensors`` into the tensors of ``state``; nothing is copied unless everything fits. Raises StorageError."""
    advice = "resume with the recipe, model and optimizer that wrote the checkpoint"
    missing, extra = sorted(state.keys() - tensors.keys()), sorted(tensors.keys() - state.keys())
    if missing or extra:
        listed = [
            f"{word} {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
            for word, names in (("it lacks", missing), ("it has in excess", extra))
            if names
        ]
        raise StorageError(
            f"the saved optimizer state does not belong to this model: {'; '.join(listed)}", advice=advice
        )
    for name, target in state.items():
        given = tensors[name]
        if given.shape != target.shape or given.dtype != target.dtype:
            found, wanted = (f"{list(each.shape)} {each.dtype}" for each in (given, target))
            raise StorageError(f"the saved optimizer state {name!r} is {found}, not {wanted}", advice=advice)
    with torch.no_grad():
        for name, target in state.items():
            target.copy_(tensors[name])


@dataclass(frozen=True, slots=True)
class _Moments:
    """AdamW's state of one parameter; shapes and types of the parameter, ``step`` a single float32."""

    exp_avg: Tensor
    exp_avg_sq: Tensor
    step: Tensor


class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019), in one fused pass over each parameter.

    The arithmetic is torch's fused kernel: on a CPU three to four times as fast as the unfused forms, because it reads
    and writes every tensor once; it gives the same bits on every run with the same number of threads.

    parameters: name -> parameter. Frozen ones are left out, tied ones count once under their first name.
    weight_decay: applies to parameters with two or more dimensions only; biases and the scales of norms are spared, as
        transformers' trainer does.
    """

    def __init__(
        self,
        parameters: Mapping[str, Parameter],
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        self.parameters = trainable(parameters)
        self.betas, self.epsilon = betas, epsilon
        self.moments = {
            name: _Moments(
                torch.zeros_like(parameter, memory_format=torch.preserve_format),
                torch.zeros_like(parameter, memory_format=torch.preserve_format),
                torch.zeros((), dtype=torch.float32, device=parameter.device),
            )
            for name, parameter in self.parameters.items()
        }
        spared = [name for name, parameter in self.parameters.items() if parameter.ndim < 2 or not weight_decay]
        decayed = [name for name in self.parameters if name not in set(spared)]
        self.groups = [(names, decay) for names, decay in ((decayed, weight_decay), (spared, 0.0)) if names]

    @torch.no_grad()
    def step(self, learning_rate: float, scale: float = 1.0) -> None:
        """See ``Optimizer.step``."""
        for names, weight_decay in self.groups:
            moving = [
                (parameter, gradient, self.moments[name])
                for name in names
                if (gradient := (parameter := self.parameters[name]).grad) is not None
            ]
            # The fused kernel walks through memory and never looks at strides; autograd keeps them equal.
            assert all(gradient.stride() == parameter.stride() for parameter, gradient, _ in moving)
            if moving:
                self._move(moving, learning_rate, weight_decay, scale)

    def _move(
        self, moving: list[tuple[Parameter, Tensor, _Moments]], learning_rate: float, decay: float, scale: float
    ) -> None:
        # The kernel divides by what it calls the gradient's scale.
        divisor = None if scale == 1.0 else torch.tensor(1.0 / scale, device=moving[0][0].device)
        adamw(
            [parameter for parameter, _, _ in moving],
            [gradient for _, gradient, _ in moving],
            [moments.exp_avg for _, _, moments in moving],
            [moments.exp_avg_sq for _, _, moments in moving],
            [],
            [moments.step for _, _, moments in moving],
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

    def zero(self) -> None:
        """See ``Optimizer.zero``."""
        drop_gradients(self.parameters)

    def tensors(self) -> dict[str, Tensor]:
        """See ``Optimizer.tensors``: ``.exp_avg``, ``.exp_avg_sq`` and ``.step`` of every parameter."""
        return {
            f"{name}.{part}": tensor
            for name, each in self.moments.items()
            for part, tensor in (("exp_avg", each.exp_avg), ("exp_avg_sq", each.exp_avg_sq), ("step", each.step))
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """See ``Optimizer.load``."""
        load_into(self.tensors(), tensors)


def gradient_norm(parameters: Mapping[str, Parameter]) -> Tensor:
    """Euclidean norm of all gradients together, a scalar tensor; 0 without any."""
    gradients = [each.grad for each in trainable(parameters).values() if each.grad is not None]
    return torch.nn.utils.get_total_norm(gradients, foreach=True) if gradients else torch.zeros(())


def check_finite(what: str, value: float | Tensor, step: int, *, where: str | None = None) -> None:
    """Refuse a loss or norm that is not a number. Call it before the weights move. Raises InternalError."""
    number = float(value)
    if not math.isfinite(number):
        raise InternalError(
            f"{what} is {number} at step {step}",
            where=where,
            advice="the weights were not moved, the last checkpoint is good; "
            "lower the learning rate, or look at the examples of this step",
        )


def clipping(
    parameters: Mapping[str, Parameter], limit: float | None, step: int, norm: Tensor | None = None
) -> tuple[float, float]:
    """The common norm of all gradients, and the factor that brings it down to ``limit`` (1 below the limit).

    The factor is ``limit / (norm + 1e-6)``, as in torch; ``None`` or 0 only measures and checks. norm: the norm over all
    processes, where there are several; measured here if not given.
    Raises InternalError naming the step, and the first parameter concerned, if the norm is not finite.
    """
    number = float(gradient_norm(parameters) if norm is None else norm)
    if not math.isfinite(number):
        check_finite("the gradient norm", number, step, where=_first_bad_gradient(parameters))
    return number, min(1.0, limit / (number + 1e-6)) if limit else 1.0


def _first_bad_gradient(parameters: Mapping[str, Parameter]) -> str | None:
    for name, parameter in parameters.items():
        if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all()):
            return name
    return None
