"""Log-probabilities of given tokens from hidden states, in chunks: the table tokens x vocabulary never exists."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

SMALLEST = 1e-30  # the logarithm of a smaller float32 probability has lost digits, or is infinite


def _chunk_rows(vocabulary: int, budget: int = 52_000_000) -> int:
    """Rows whose logits are about ``budget`` numbers: large enough for efficient products, small beside tokens x vocabulary."""
    return max(16, budget // vocabulary)


def _pass(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, gradient: Tensor | None, outputs: _Outputs
) -> None:
    """One sweep over the chunks: log-probabilities and hits, and with ``gradient`` [N] the gradients of its dot product
    with the log-probabilities: d logp / d logits = onehot - softmax. Products run in the number format of ``hidden``."""
    rows = min(_chunk_rows(weight.shape[0]), max(1, len(target)))
    weight, bias = weight.to(hidden.dtype), None if bias is None else bias.to(hidden.dtype)
    # One table serves all chunks: fresh memory of this size costs more time than the arithmetic on it.
    table = hidden.new_empty(rows, weight.shape[0])
    for begin in range(0, len(target), rows):
        part = slice(begin, begin + rows)
        states, wanted = hidden[part], target[part]
        logits = table[: len(wanted)]
        if bias is None:
            torch.mm(states, weight.t(), out=logits)
        else:
            torch.addmm(bias, states, weight.t(), out=logits)
        logits = logits.float()
        softmax = torch.softmax(logits, dim=-1, out=logits)
        own = softmax.gather(1, wanted[:, None])[:, 0]
        outputs.log_probability[part] = own.log()
        # An argmax would say the same, but is several times slower than this on a CPU.
        outputs.correct[part] = own >= softmax.amax(dim=-1)
        if bool((own < SMALLEST).any()):
            lost = torch.nonzero(own < SMALLEST)[:, 0]
            outputs.log_probability[part][lost] = _exactly(states[lost], weight, bias, wanted[lost])
        if gradient is not None:
            _accumulate(states, weight, wanted, gradient[part, None], softmax, part, outputs)


def _exactly(states: Tensor, weight: Tensor, bias: Tensor | None, wanted: Tensor) -> Tensor:
    """The log-probabilities of a few targets, from logits that are made once more."""
    logits = torch.nn.functional.linear(states, weight, bias).float()
    return torch.log_softmax(logits, dim=-1).gather(1, wanted[:, None])[:, 0]


def _accumulate(
    states: Tensor, weight: Tensor, wanted: Tensor, gradient: Tensor, softmax: Tensor, part: slice, outputs: _Outputs
) -> None:
    probability = softmax.to(weight.dtype)
    scale = gradient.to(weight.dtype)
    outputs.hidden[part] = (weight[wanted] - torch.mm(probability, weight)) * scale
    scaled = states * scale
    # The sum over chunks stays in the format of the parameter: float32 also where the products are 16-bit. The first
    # chunk overwrites the buffer, which saves filling it with zeros.
    if outputs.weight.dtype == scaled.dtype:
        outputs.weight.addmm_(probability.t(), scaled, beta=0.0 if part.start == 0 else 1.0, alpha=-1.0)
    else:
        outputs.weight.sub_(torch.mm(probability.t(), scaled))
    outputs.weight.index_add_(0, wanted, scaled.to(outputs.weight.dtype))
    if outputs.bias is not None:
        outputs.bias.sub_((softmax * gradient).sum(0)).index_add_(0, wanted, gradient[:, 0])


class _Outputs:
    """Where a sweep writes: one number for each target, and gradient buffers if they are wanted."""

    __slots__ = ("bias", "correct", "hidden", "log_probability", "weight")

    def __init__(self, hidden: Tensor, weight: Tensor, bias: Tensor | None, gradients: bool) -> None:
        self.log_probability = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        self.correct = torch.empty(len(hidden), dtype=torch.bool, device=hidden.device)
        self.hidden = torch.empty_like(hidden) if gradients else hidden.new_empty(0)
        filled = hidden.dtype != weight.dtype or len(hidden) == 0
        buffer = torch.zeros_like if filled else torch.empty_like
        self.weight = buffer(weight) if gradients else hidden.new_empty(0)
        self.bias = torch.zeros_like(bias) if gradients and bias is not None else None


class _TargetLogProbability(torch.autograd.Function):
    """Gradients are made in the forward sweep when the caller foretells the gradient that it will send back.

    A loss that is linear in the log-probabilities with known weights (supervised fine-tuning) does so and saves a second
    product with the vocabulary. Foretelling is only a hint: if another gradient arrives, the sweep is repeated with it.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, expected: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        wants_gradient = expected is not None and (ctx.needs_input_grad[0] or ctx.needs_input_grad[1])
        outputs = _Outputs(hidden, weight, bias, wants_gradient)
        _pass(hidden, weight, bias, target, expected if wants_gradient else None, outputs)
        ctx.save_for_backward(hidden, weight, bias, target)
        ctx.expected, ctx.outputs = (expected, outputs) if wants_gradient else (None, None)
        ctx.mark_non_differentiable(outputs.correct)
        return outputs.log_probability, outputs.correct

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        gradient = gradients[0]
        hidden, weight, bias, target = ctx.saved_tensors
        outputs: _Outputs | None = ctx.outputs
        if outputs is None or not torch.equal(ctx.expected, gradient):
            outputs = _Outputs(hidden, weight, bias, True)
            _pass(hidden, weight, bias, target, gradient, outputs)
        ctx.outputs = None  # the buffers become gradients; a second backward computes its own
        return outputs.hidden, outputs.weight, outputs.bias, None, None


def target_log_probabilities(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, expected_gradient: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """log softmax(hidden @ weight.T + bias)[target], float32 [N], and whether target has the highest logit, bool [N].

    hidden: [N, D], in the format of the computation. weight: [V, D] and bias: [V] or None, parameters in float32. target: int64 [N].
    expected_gradient: float32 [N], the gradient of the loss with respect to the result, if it is known beforehand.
    """
    result: tuple[Tensor, Tensor] = _TargetLogProbability.apply(hidden, weight, bias, target, expected_gradient)  # type: ignore[no-untyped-call]
    return result
