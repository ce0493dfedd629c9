"""Log-probabilities with what regularisers of the logits need beside them: their log-sum-exp and their sum.

A function of its own, so that the head of every other loss (``model.head``) reads and writes nothing more for it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tunesmith.batch.protocols import LogProbabilities, Spread

CHUNK = 16_000_000
"""Logits computed at once: large enough for efficient products, small beside tokens x vocabulary."""


def _logits(states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """[n, V] in float32; the product runs in the number format of ``states``."""
    product = torch.mm(states, weight.t()) if bias is None else torch.addmm(bias, states, weight.t())
    return product.float()


def _chunks(count: int, vocabulary: int) -> list[slice]:
    rows = max(1, CHUNK // vocabulary)
    return [slice(begin, begin + rows) for begin in range(0, count, rows)]


class _Statistics(torch.autograd.Function):
    """The gradient depends on the result, so the logits of a chunk are computed once more in the backward sweep."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        own, normalizer, total = (torch.empty(len(target), device=hidden.device) for _ in range(3))
        correct = torch.empty(len(target), dtype=torch.bool, device=hidden.device)
        matrix, shift = weight.to(hidden.dtype), None if bias is None else bias.to(hidden.dtype)
        for part in _chunks(len(target), len(weight)):
            logits = _logits(hidden[part], matrix, shift)
            own[part] = logits.gather(1, target[part, None])[:, 0]
            correct[part] = own[part] >= logits.amax(dim=-1)
            normalizer[part], total[part] = torch.logsumexp(logits, dim=-1), logits.sum(dim=-1)
        ctx.save_for_backward(hidden, weight, bias, target, normalizer)
        ctx.mark_non_differentiable(correct)
        return own - normalizer, correct, normalizer, total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, target, normalizer = ctx.saved_tensors
        log_probability, _, of_normalizer, of_total = gradients
        matrix, shift = weight.to(hidden.dtype), None if bias is None else bias.to(hidden.dtype)
        to_hidden, to_weight = torch.empty_like(hidden), torch.zeros_like(weight)
        to_bias = None if bias is None else torch.zeros_like(bias)
        for part in _chunks(len(target), len(weight)):
            states = hidden[part]
            # d logp / d logits = onehot - softmax, d normalizer / d logits = softmax, d total / d logits = 1
            table = (_logits(states, matrix, shift) - normalizer[part, None]).exp_()
            table.mul_((of_normalizer[part] - log_probability[part])[:, None]).add_(of_total[part, None])
            table.scatter_add_(1, target[part, None], log_probability[part, None])
            if to_bias is not None:
                to_bias.add_(table.sum(0))
            table = table.to(matrix.dtype)
            to_hidden[part] = torch.mm(table, matrix)
            to_weight.add_(torch.mm(table.t(), states))
        return to_hidden, to_weight, to_bias, None


def target_statistics(hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor) -> LogProbabilities:
    """As ``model.head.target_log_probabilities``, with ``spread``; everything but ``correct`` can be differentiated."""
    found: tuple[Tensor, Tensor, Tensor, Tensor] = _Statistics.apply(hidden, weight, bias, target)  # type: ignore[no-untyped-call]
    log_probability, correct, normalizer, total = found
    return LogProbabilities(log_probability, correct, Spread(normalizer, total, len(weight)))
