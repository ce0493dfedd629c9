"""Log-probabilities with what regularisers of the logits need beside them: their log-sum-exp and their sum.

A function of its own, so that the head of every other loss (``model.head``) reads and writes nothing more for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tunesmith.batch.protocols import LogitStatistics, LogProbabilities, StatisticsGradient

CHUNK = 16_000_000
"""Logits computed at once: large enough for efficient products, small beside tokens x vocabulary."""


def _logits(states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """[n, V] in float32; the product runs in the number format of ``states``."""
    product = torch.mm(states, weight.t()) if bias is None else torch.addmm(bias, states, weight.t())
    return product.float()


def _chunks(count: int, vocabulary: int) -> list[slice]:
    rows = max(1, CHUNK // vocabulary)
    return [slice(begin, begin + rows) for begin in range(0, count, rows)]


class _Gradients:
    """Gradients of hidden states, weight and bias, added up chunk by chunk."""

    __slots__ = ("bias", "hidden", "weight")

    def __init__(self, hidden: Tensor, weight: Tensor, bias: Tensor | None) -> None:
        self.hidden, self.weight = torch.empty_like(hidden), torch.zeros_like(weight)
        self.bias = None if bias is None else torch.zeros_like(bias)

    def add(self, part: slice, states: Tensor, matrix: Tensor, table: Tensor) -> None:
        """table: float32 [n, V], the gradient of the logits of one chunk."""
        if self.bias is not None:
            self.bias.add_(table.sum(0))
        table = table.to(matrix.dtype)
        self.hidden[part] = torch.mm(table, matrix)
        if self.weight.dtype == table.dtype:
            self.weight.addmm_(table.t(), states)
        else:
            self.weight.add_(torch.mm(table.t(), states))


def _slope(
    logits: Tensor, normalizer: Tensor, target: Tensor, of_own: Tensor, of_normalizer: Tensor, of_total: Tensor
) -> Tensor:
    """The gradient of a chunk's logits, written over them: d logp = onehot - softmax, d normalizer = softmax, d total = 1."""
    table = logits.sub_(normalizer[:, None]).exp_().mul_((of_normalizer - of_own)[:, None])
    if bool(of_total.any()):
        table.add_(of_total[:, None])
    return table.scatter_add_(1, target[:, None], of_own[:, None])


class _Statistics(torch.autograd.Function):
    """Gradients are made in the forward sweep from ``slopes``; if others arrive, the logits are computed once more."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        target: Tensor,
        statistics_gradient: StatisticsGradient | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        own, normalizer, total = (torch.empty(len(target), device=hidden.device) for _ in range(3))
        correct = torch.empty(len(target), dtype=torch.bool, device=hidden.device)
        matrix, shift = weight.to(hidden.dtype), None if bias is None else bias.to(hidden.dtype)
        wanted = statistics_gradient is not None and (ctx.needs_input_grad[0] or ctx.needs_input_grad[1])
        made = _Gradients(hidden, weight, bias) if wanted else None
        for part in _chunks(len(target), len(weight)):
            logits = _logits(hidden[part], matrix, shift)
            own[part] = logits.gather(1, target[part, None])[:, 0]
            correct[part] = own[part] >= logits.amax(dim=-1)
            normalizer[part], total[part] = torch.logsumexp(logits, dim=-1), logits.sum(dim=-1)
            if made is not None and statistics_gradient is not None:
                predicted_by_previous = statistics_gradient(normalizer[part], part, len(weight))
                made.add(
                    part, hidden[part], matrix, _slope(logits, normalizer[part], target[part], *predicted_by_previous)
                )
        ctx.save_for_backward(hidden, weight, bias, target, normalizer)
        ctx.made, ctx.statistics_gradient = made, statistics_gradient
        ctx.mark_non_differentiable(correct)
        return own - normalizer, correct, normalizer, total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, target, normalizer = ctx.saved_tensors
        arrived = (gradients[0], gradients[2], gradients[3])
        made: _Gradients | None = ctx.made
        if made is None or not _alike(arrived, ctx.statistics_gradient(normalizer, slice(None), len(weight))):
            made = _Gradients(hidden, weight, bias)
            matrix, shift = weight.to(hidden.dtype), None if bias is None else bias.to(hidden.dtype)
            for part in _chunks(len(target), len(weight)):
                logits = _logits(hidden[part], matrix, shift)
                here = (each[part] for each in arrived)
                made.add(part, hidden[part], matrix, _slope(logits, normalizer[part], target[part], *here))
        ctx.made = None  # the buffers become gradients; a second backward computes its own
        return made.hidden, made.weight, made.bias, None, None


def _alike(arrived: Sequence[Tensor], predicted_by_previous: Sequence[Tensor]) -> bool:
    """Up to rounding: a loss sums what depends on the normalizer in an order of its own."""
    return all(
        torch.allclose(one, other, rtol=1e-5, atol=0.0)
        for one, other in zip(arrived, predicted_by_previous, strict=True)
    )


def target_statistics(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    target: Tensor,
    statistics_gradient: StatisticsGradient | None = None,
) -> LogProbabilities:
    """As ``model.head.target_log_probabilities``, with ``spread``; everything but ``correct`` can be differentiated.

    slopes: what is known of the gradient beforehand; a hint that saves a product with the vocabulary.
    """
    found: tuple[Tensor, Tensor, Tensor, Tensor] = _Statistics.apply(hidden, weight, bias, target, statistics_gradient)  # type: ignore[no-untyped-call]
    log_probability, correct, normalizer, total = found
    return LogProbabilities(log_probability, correct, LogitStatistics(normalizer, total, len(weight)))
