"""Log-probabilities together with the statistics of the logits that regularisers need: their logsumexp and their sum.

This is a separate function, so that the head of every other loss (``model.head``) reads and writes nothing for it.
Shapes: N targets, D hidden units, V tokens in the vocabulary, n targets in one chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tunesmith.batch.protocols import LogitStatistics, LogProbabilities, StatisticsGradient
from tunesmith.model.products import accumulator, logits_of

CHUNK = 16_000_000
"""Logits computed at once: large enough for efficient products, small compared with [N, V]."""


def _capped_logits(states: Tensor, weight: Tensor, bias: Tensor | None, cap: float | None) -> Tensor:
    """float32 [n, V]; the product runs in the number format of ``states``, [n, D]."""
    found = logits_of(states, weight, bias)
    return found if cap is None else found.div_(cap).tanh_().mul_(cap)


def _chunks(count: int, vocabulary: int) -> list[slice]:
    rows = max(1, CHUNK // vocabulary)
    return [slice(begin, begin + rows) for begin in range(0, count, rows)]


class _Gradients:
    """Gradients of hidden states, weight and bias, added up chunk by chunk and shaped as what they belong to.

    wanted: whether there are gradients of hidden states, weight and bias; a frozen head has none.
    """

    __slots__ = ("bias", "hidden", "weight")

    def __init__(self, hidden: Tensor, weight: Tensor, bias: Tensor | None, wanted: Sequence[bool]) -> None:
        self.hidden = torch.empty_like(hidden) if wanted[0] else None
        self.weight = torch.zeros_like(weight, dtype=accumulator(weight)) if wanted[1] else None
        self.bias = torch.zeros_like(bias, dtype=accumulator(bias)) if bias is not None and wanted[2] else None

    def add(self, part: slice, states: Tensor, matrix: Tensor, table: Tensor) -> None:
        """Add one chunk.

        states: [n, D].
        matrix: [V, D], the weight in the number format of the products.
        table: float32 [n, V], the gradient of the logits.
        """
        if self.bias is not None:
            self.bias.add_(table.sum(0))
        table = table.to(matrix.dtype)
        if self.hidden is not None:
            self.hidden[part] = torch.mm(table, matrix)
        if self.weight is not None:
            if self.weight.dtype == table.dtype:
                self.weight.addmm_(table.t(), states)
            else:
                self.weight.add_(torch.mm(table.t(), states))


def _logit_gradient(
    logits: Tensor,
    logsumexp: Tensor,
    target: Tensor,
    of_log_probability: Tensor,
    of_logsumexp: Tensor,
    of_total: Tensor | None,
    *,
    cap: float | None,
) -> Tensor:
    """float32 [n, V], the gradient of the products of a chunk, written over the logits.

    d log p = onehot - softmax, d logsumexp = softmax, d total = 1, times 1 - (logit / cap)^2 where logits are capped.
    logits: float32 [n, V].
    logsumexp: float32 [n].
    target: int64 [n].
    of_log_probability, of_logsumexp, of_total: float32 [n], gradients of the loss with respect to these. None for a
        loss that does not depend on the total saves a pass over the table.
    """
    slopes = None if cap is None else 1.0 - (logits / cap).square()
    table = logits.sub_(logsumexp[:, None]).exp_().mul_((of_logsumexp - of_log_probability)[:, None])
    if of_total is not None:
        table.add_(of_total[:, None])
    table.scatter_add_(1, target[:, None], of_log_probability[:, None])
    return table if slopes is None else table.mul_(slopes)


class _TargetStatistics(torch.autograd.Function):
    """Computes gradients in the forward pass from ``statistics_gradient``; if the backward pass receives other ones,
    the logits are computed again."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        target: Tensor,
        statistics_gradient: StatisticsGradient | None,
        cap: float | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        target_logit, logsumexp, total = (torch.empty(len(target), device=hidden.device) for _ in range(3))
        correct = torch.empty(len(target), dtype=torch.bool, device=hidden.device)
        matrix, shift = weight.to(hidden.dtype), None if bias is None else bias.to(hidden.dtype)
        wanted = ctx.needs_input_grad[:3]
        hinted = statistics_gradient is not None and any(wanted)
        found = _Gradients(hidden, weight, bias, wanted) if hinted else None
        for part in _chunks(len(target), len(weight)):
            logits = _capped_logits(hidden[part], matrix, shift, cap)
            target_logit[part] = logits.gather(1, target[part, None])[:, 0]
            correct[part] = target_logit[part] >= logits.amax(dim=-1)
            logsumexp[part], total[part] = torch.logsumexp(logits, dim=-1), logits.sum(dim=-1)
            if found is not None and statistics_gradient is not None:
                hint = statistics_gradient(logsumexp[part], part, len(weight))
                table = _logit_gradient(logits, logsumexp[part], target[part], *hint, cap=cap)
                found.add(part, hidden[part], matrix, table)
        ctx.save_for_backward(hidden, weight, bias, target, logsumexp)
        ctx.found, ctx.statistics_gradient, ctx.cap = found, statistics_gradient, cap
        ctx.mark_non_differentiable(correct)
        return target_logit - logsumexp, correct, logsumexp, total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, target, logsumexp = ctx.saved_tensors
        received = (gradients[0], gradients[2], gradients[3])
        found: _Gradients | None = ctx.found
        if found is None or not _close(received, ctx.statistics_gradient(logsumexp, slice(None), len(weight))):
            found = _Gradients(hidden, weight, bias, ctx.needs_input_grad)
            matrix, shift = weight.to(hidden.dtype), None if bias is None else bias.to(hidden.dtype)
            for part in _chunks(len(target), len(weight)):
                logits = _capped_logits(hidden[part], matrix, shift, ctx.cap)
                in_part = (each[part] for each in received)
                table = _logit_gradient(logits, logsumexp[part], target[part], *in_part, cap=ctx.cap)
                found.add(part, hidden[part], matrix, table)
        ctx.found = None  # the buffers become gradients; a second backward pass computes its own
        return found.hidden, found.weight, found.bias, None, None, None


def _close(received: Sequence[Tensor], hint: Sequence[Tensor | None]) -> bool:
    """Whether gradients are equal up to rounding: a loss may add its terms in another order than the hint.

    All of them are compared before the one look at the result, which waits for a GPU.
    """
    far = [
        one.count_nonzero() if other is None else (~torch.isclose(one, other, rtol=1e-5, atol=0.0)).count_nonzero()
        for one, other in zip(received, hint, strict=True)
    ]
    return not bool(torch.stack(far).any())


def target_statistics(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    target: Tensor,
    statistics_gradient: StatisticsGradient | None = None,
    *,
    cap: float | None = None,
) -> LogProbabilities:
    """As ``model.head.target_log_probabilities``, with ``statistics``; everything but ``correct`` is differentiable.

    hidden: [N, D], in the number format of the computation.
    weight: [V, D], a parameter in float32.
    bias: [V], a parameter in float32, or None.
    target: int64 [N].
    statistics_gradient: what is known of the gradient beforehand, a hint that saves a product with the vocabulary.
    cap: as in ``model.head.target_log_probabilities``.
    """
    found: tuple[Tensor, Tensor, Tensor, Tensor] = _TargetStatistics.apply(
        hidden, weight, bias, target, statistics_gradient, cap
    )  # type: ignore[no-untyped-call]
    log_probability, correct, logsumexp, total = found
    return LogProbabilities(log_probability, correct, LogitStatistics(logsumexp, total, len(weight)))
