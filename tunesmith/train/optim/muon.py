"""Muon for the hidden matrices of a network: orthogonalised momentum. All other parameters are trained by AdamW.

K. Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"; the scale of the update follows
J. Liu et al. 2025, "Muon is scalable for LLM training".
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import torch
from torch import Tensor
from torch.nn import Parameter

from tunesmith.errors import RecipeError
from tunesmith.model.local_rows import as_rows_of, own_rows, whole
from tunesmith.train.optim.optimizers import (
    AdamW,
    drop_gradients,
    make_contiguous,
    trainable_parameters,
    weight_and_gradient,
)
from tunesmith.train.optim.storage import MasterWeights, StateFormat, new_moment, synchronize

QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients a, b, c of one step ``a x + b x^3 + c x^5`` on the singular values (Jordan et al.)."""

BATCH = 1 << 24
"""Largest number of elements in one batch of matrices: batching is faster for small ones only, and it copies them."""


def orthogonalise(matrices: Tensor, iterations: int = 5) -> Tensor:
    """Bring all singular values of each matrix near 1 (within about 0.7 to 1.2) and keep its singular vectors.

    The quintic Newton-Schulz iteration of Jordan et al., in the type of the argument, on the shorter side. A matrix of
    zeros stays zero.

    matrices: float [K, rows, columns].
    iterations: Newton-Schulz steps.
    Returns float [K, rows, columns].
    """
    transposed = matrices.shape[-2] > matrices.shape[-1]
    wide: Tensor = matrices.mT if transposed else matrices
    a, b, c = QUINTIC
    x: Tensor = wide / wide.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-20)
    for _ in range(iterations):
        gram = torch.bmm(x, x.mT)
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x.mT if transposed else x


class Muon:
    """Muon for the matrices named in ``hidden``, AdamW for all other parameters.

    Per matrix, with gradient g: m = momentum m + (1 - momentum) g; u = orthogonalise((1 - momentum) g + momentum m)
    (Nesterov); w = (1 - learning_rate weight_decay) w - 0.2 sqrt(max(rows, columns)) learning_rate u. The factor gives
    an update the root mean square of AdamW's updates (about 0.2), so a learning rate found for AdamW can be used here.
    Everything is computed in float32 however weights and moments are stored, so a run gives the same bits every time.
    Matrices of one shape, or of its transpose, share one Newton-Schulz iteration. Of a sharded matrix every process has
    the momentum of its rows; the argument of the iteration is gathered, and all processes compute the same.

    parameters: name -> parameter.
    hidden: names of the weight matrices inside the network, without embeddings, heads, norms and biases.
    learning_rate, adamw_learning_rate: peaks of the two schedules. Only their ratio is used: AdamW follows the schedule
        of the matrices, scaled by it.
    momentum: of the matrices.
    weight_decay: of matrices and of AdamW, which does not decay vectors.
    iterations: Newton-Schulz steps.
    betas, epsilon: of AdamW.
    storage: of weights and state.
    Raises RecipeError if nothing in ``hidden`` is trainable, or something in it is no matrix.
    """

    def __init__(
        self,
        parameters: Mapping[str, Parameter],
        hidden: Collection[str],
        *,
        learning_rate: float,
        adamw_learning_rate: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        iterations: int = 5,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
        storage: StateFormat = StateFormat(),  # noqa: B008 - it cannot be changed
    ) -> None:
        named = trainable_parameters(parameters)
        self.matrices = {name: parameter for name, parameter in named.items() if name in set(hidden)}
        wrong = [name for name, parameter in self.matrices.items() if parameter.ndim != 2]
        if wrong or not self.matrices:
            found = f"{wrong[0]!r} is not a matrix" if wrong else "there is no hidden matrix to train"
            raise RecipeError(f"Muon cannot be used: {found}", advice="choose the optimizer adamw")
        rest = {name: parameter for name, parameter in named.items() if name not in self.matrices}
        self.adamw = AdamW(rest, betas=betas, epsilon=epsilon, weight_decay=weight_decay, storage=storage)
        self.adamw_ratio = adamw_learning_rate / learning_rate
        self.momentum, self.weight_decay, self.iterations = momentum, weight_decay, iterations
        self.storage, self.masters = storage, MasterWeights(self.matrices, storage)
        if storage.moments == "8bit":
            make_contiguous(self.matrices)
        self.momentum_buffers = {name: new_moment(each, storage, signed=True) for name, each in self.matrices.items()}

    @torch.no_grad()
    def step(self, learning_rate: float, scale: float = 1.0) -> None:
        """See ``Optimizer.step``; ``learning_rate`` is that of the matrices."""
        for names in self._batches():
            for name, found in zip(names, self._updates(names, scale), strict=True):
                matrix, parameter = self.masters.read(name), self.matrices[name]
                update = own_rows(found if _is_wide(parameter) else found.T, parameter)
                # A rate that is no number of this type is its largest: the weights overflow, and the run stops.
                rate = min(0.2 * math.sqrt(max(parameter.shape)) * learning_rate, torch.finfo(matrix.dtype).max)
                matrix.mul_(1.0 - learning_rate * self.weight_decay)
                matrix.add_(update, alpha=-rate)
                self.masters.write(name, matrix)
                self.masters.finish(name)
        synchronize(next(iter(self.matrices.values())).device, self.storage)
        self.adamw.step(learning_rate * self.adamw_ratio, scale)

    def _batches(self) -> list[list[str]]:
        """Names of the matrices with a gradient, grouped by shape in batches of at most ``BATCH`` elements."""
        by_shape: dict[tuple[int, int], list[str]] = {}
        for name, matrix in self.matrices.items():
            if matrix.grad is not None:
                by_shape.setdefault((min(matrix.shape), max(matrix.shape)), []).append(name)
        batches: list[list[str]] = []
        for (shorter, longer), names in by_shape.items():
            size = max(1, BATCH // (shorter * longer))
            batches += [names[start : start + size] for start in range(0, len(names), size)]
        return batches

    def _updates(self, names: list[str], scale: float) -> Tensor:
        """Update the momentum of K matrices of one shape; returns their updates, float [K, shorter, longer]."""
        nesterovs: list[Tensor] = []
        for name in names:
            parameter, buffer = self.matrices[name], self.momentum_buffers[name]
            found = weight_and_gradient(parameter)[1]
            gradient = found.float() * scale if scale != 1.0 else found.float()
            momentum = buffer.read().lerp_(gradient, 1.0 - self.momentum)
            nesterov = whole(as_rows_of(gradient.lerp(momentum, self.momentum), parameter))
            buffer.write(momentum)
            nesterovs.append(nesterov if _is_wide(nesterov) else nesterov.T)
        return orthogonalise(torch.stack(nesterovs), self.iterations)

    def zero_grad(self) -> None:
        """See ``Optimizer.zero_grad``."""
        drop_gradients(self.matrices)
        self.adamw.zero_grad()

    def state_dict(self) -> dict[str, Tensor]:
        """See ``Optimizer.state_dict``: ``.momentum`` of every matrix, their rests, and the state of AdamW."""
        momentum = {
            f"{name}.momentum{ending}": tensor
            for name, each in self.momentum_buffers.items()
            for ending, tensor in each.tensors().items()
        }
        return momentum | self.masters.state_dict() | self.adamw.state_dict()


def _is_wide(matrix: Tensor) -> bool:
    return matrix.shape[0] <= matrix.shape[1]
