"""Log-probabilities of given tokens from hidden states, in chunks: the table tokens x vocabulary never exists."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from tunesmith.batch.protocols import BlockwiseGradient, GradientHint

SMALLEST = 1e-30  # the logarithm of a smaller float32 probability has lost digits, or is infinite


def _chunk_rows(vocabulary: int, budget: int = 52_000_000) -> int:
    """Rows whose logits are about ``budget`` numbers: large enough for efficient products, small beside tokens x vocabulary."""
    return max(16, budget // vocabulary)


class _Outputs:
    """Where a sweep writes: one number for each target, and gradient buffers if they are wanted."""

    __slots__ = ("begun", "bias", "correct", "hidden", "log_probability", "weight")

    def __init__(self, hidden: Tensor, weight: Tensor, bias: Tensor | None, gradients: bool) -> None:
        self.log_probability = torch.zeros(len(hidden), dtype=torch.float32, device=hidden.device)
        self.correct = torch.empty(len(hidden), dtype=torch.bool, device=hidden.device)
        self.hidden = torch.empty_like(hidden) if gradients else hidden.new_empty(0)
        # The first chunk overwrites the buffer of the products' format, which saves filling it with zeros.
        self.begun = hidden.dtype != weight.dtype or len(hidden) == 0
        buffer = torch.zeros_like if self.begun else torch.empty_like
        self.weight = buffer(weight) if gradients else hidden.new_empty(0)
        self.bias = torch.zeros_like(bias) if gradients and bias is not None else None


class _Sweep:
    """What the chunks of one sweep over the targets share. Products run in the number format of ``hidden``."""

    def __init__(self, hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, outputs: _Outputs) -> None:
        self.hidden, self.target, self.outputs = hidden, target, outputs
        self.rows = min(_chunk_rows(weight.shape[0]), max(1, len(target)))
        self.weight, self.bias = weight.to(hidden.dtype), None if bias is None else bias.to(hidden.dtype)
        # One table serves all chunks: fresh memory of this size costs more time than the arithmetic on it.
        self.table = hidden.new_empty(self.rows, weight.shape[0])

    def probabilities(self, part: slice) -> Tensor:
        """float32 [n, V], the softmax at the targets in ``part``; it stands in the table until the next call."""
        states = self.hidden[part]
        logits = self.table[: len(states)]
        if self.bias is None:
            torch.mm(states, self.weight.t(), out=logits)
        else:
            torch.addmm(self.bias, states, self.weight.t(), out=logits)
        logits = logits.float()
        return torch.softmax(logits, dim=-1, out=logits)

    def score(self, part: slice, softmax: Tensor) -> None:
        """Log-probabilities and hits."""
        wanted, outputs = self.target[part], self.outputs
        own = softmax.gather(1, wanted[:, None])[:, 0]
        outputs.log_probability[part] = own.log()
        # An argmax would say the same, but is several times slower than this on a CPU.
        outputs.correct[part] = own >= softmax.amax(dim=-1)
        if bool((own < SMALLEST).any()):
            lost = torch.nonzero(own < SMALLEST)[:, 0]
            logits = torch.nn.functional.linear(self.hidden[part][lost], self.weight, self.bias).float()
            exact = torch.log_softmax(logits, dim=-1).gather(1, wanted[lost, None])[:, 0]
            outputs.log_probability[part][lost] = exact

    def accumulate(self, part: slice, softmax: Tensor, gradient: Tensor) -> None:
        """The gradients of the dot product of ``gradient`` [n] with the log-probabilities: d logp / d logits = onehot - softmax."""
        wanted, outputs = self.target[part], self.outputs
        probability, scale = softmax.to(self.weight.dtype), gradient[:, None].to(self.weight.dtype)
        outputs.hidden[part] = (self.weight[wanted] - torch.mm(probability, self.weight)) * scale
        scaled = self.hidden[part] * scale
        # The sum over chunks stays in the format of the parameter: float32 also where the products are 16-bit.
        if outputs.weight.dtype == scaled.dtype:
            outputs.weight.addmm_(probability.t(), scaled, beta=1.0 if outputs.begun else 0.0, alpha=-1.0)
        else:
            outputs.weight.sub_(torch.mm(probability.t(), scaled))
        outputs.begun = True
        outputs.weight.index_add_(0, wanted, scaled.to(outputs.weight.dtype))
        if outputs.bias is not None:
            outputs.bias.sub_((softmax * gradient[:, None]).sum(0)).index_add_(0, wanted, gradient)

    def known(self, gradient: Tensor | None, *, score: bool = True) -> None:
        """The whole sweep where the gradient of all targets is known, or none is wanted."""
        for part in _pieces(0, len(self.target), self.rows):
            softmax = self.probabilities(part)
            if score:
                self.score(part, softmax)
            if gradient is not None:
                self.accumulate(part, softmax, gradient[part])

    def predicted_by_previous(self, foretelling: BlockwiseGradient) -> Tensor:
        """The whole sweep, with the gradient [N] that comes to light on the way. Only of a block that does not fit into the
        table, what does not is computed twice."""
        gradient = torch.zeros_like(self.outputs.log_probability)
        for begin, end in _whole_blocks(foretelling.block, self.rows):
            parts = _pieces(begin, end, self.rows)
            for part in parts:
                softmax = self.probabilities(part)
                self.score(part, softmax)
            gradient[begin:end] = foretelling.gradient(self.outputs.log_probability)[begin:end]
            self.accumulate(parts[-1], softmax, gradient[parts[-1]])
            for part in parts[:-1]:
                self.accumulate(part, self.probabilities(part), gradient[part])
        return gradient


def _pieces(begin: int, end: int, rows: int) -> list[slice]:
    """Slices of at most ``rows``; all but the first are full."""
    first = begin + ((end - begin) % rows or rows)
    return [slice(max(begin, stop - rows), stop) for stop in range(first, end + 1, rows)]


def _whole_blocks(block: Tensor, rows: int) -> list[tuple[int, int]]:
    """All targets in stretches of at most ``rows`` that cut no block apart; one that is larger is a stretch by itself.

    block: int64 [N]. Blocks may lie within each other.
    """
    if not len(block):
        return []
    place = torch.arange(len(block), device=block.device)
    last = place.new_zeros(int(block.max()) + 1).scatter_reduce(0, block, place, "amax")
    ends = (torch.nonzero(last[block].cummax(0).values == place)[:, 0] + 1).tolist()
    found, begin = [], 0
    for end, following in pairwise([*ends, len(block) + rows + 1]):
        if following - begin > rows:
            found.append((begin, end))
            begin = end
    return found


class _TargetLogProbability(torch.autograd.Function):
    """Gradients are made in the forward sweep when the caller foretells the gradient that it will send back.

    A loss that is linear in the log-probabilities with known weights (supervised fine-tuning) does so before the sweep, one
    that falls into blocks (pairs of replies) on the way; both save a second product with the vocabulary. BlockwiseGradient is only
    a hint: if another gradient arrives, the sweep is repeated with it.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, expected: GradientHint
    ) -> tuple[Tensor, Tensor]:
        if not (ctx.needs_input_grad[0] or ctx.needs_input_grad[1]):
            expected = None
        outputs = _Outputs(hidden, weight, bias, expected is not None)
        sweep = _Sweep(hidden, weight, bias, target, outputs)
        if isinstance(expected, BlockwiseGradient):
            expected = sweep.predicted_by_previous(expected)
        else:
            sweep.known(expected)
        ctx.expected, ctx.outputs = expected, None if expected is None else outputs
        ctx.save_for_backward(hidden, weight, bias, target)
        ctx.mark_non_differentiable(outputs.correct)
        return outputs.log_probability, outputs.correct

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        gradient = gradients[0]
        hidden, weight, bias, target = ctx.saved_tensors
        outputs: _Outputs | None = ctx.outputs
        if outputs is None or not torch.equal(ctx.expected, gradient):
            outputs = _Outputs(hidden, weight, bias, True)
            _Sweep(hidden, weight, bias, target, outputs).known(gradient, score=False)
        ctx.outputs = None  # the buffers become gradients; a second backward computes its own
        return outputs.hidden, outputs.weight, outputs.bias, None, None


def target_log_probabilities(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, expected_gradient: GradientHint = None
) -> tuple[Tensor, Tensor]:
    """log softmax(hidden @ weight.T + bias)[target], float32 [N], and whether target has the highest logit, bool [N].

    hidden: [N, D], in the format of the computation. weight: [V, D] and bias: [V] or None, parameters in float32. target: int64 [N].
    expected_gradient: float32 [N], the gradient of the loss with respect to the result, if it is known beforehand, or how to
    find it block by block.
    """
    # Within the function both are hidden: gradients are off, and what it needs is told as if they were on.
    expected = expected_gradient if torch.is_grad_enabled() else None
    result: tuple[Tensor, Tensor] = _TargetLogProbability.apply(hidden, weight, bias, target, expected)  # type: ignore[no-untyped-call]
    return result
