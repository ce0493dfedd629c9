"""Log-probabilities of given tokens from hidden states, in chunks: the table of all logits [N, V] never exists.

Shapes: N targets, D hidden units, V tokens in the vocabulary, n targets in one chunk.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from tunesmith.batch.protocols import BlockwiseGradient, GradientHint
from tunesmith.model.products import accumulator, gives_float32, logits_of

# The logarithm of a float32 probability below 1e-30 has lost digits, or is infinite.
SMALLEST_LOGARITHM = math.log(1e-30)


def _chunk_rows(vocabulary: int, budget: int = 52_000_000) -> int:
    """Rows of a chunk of about ``budget`` logits: large enough for efficient products, small compared with [N, V]."""
    return max(16, budget // vocabulary)


NOTHING = (False, False, False)
"""No gradients are wanted."""


class _HeadOutputs:
    """The results of a pass over the targets.

    log_probability: float32 [N].
    correct: bool [N].
    hidden, weight, bias: gradients, shaped as what they belong to; None where they are not wanted. Those of weight and
        bias are in float32 also where the parameter has 16 bits.
    weight_is_set: whether the gradient of the weight holds numbers already, so that the next chunk is added to it.
    """

    __slots__ = ("bias", "correct", "hidden", "log_probability", "weight", "weight_is_set")

    def __init__(self, hidden: Tensor, weight: Tensor, bias: Tensor | None, wanted: Sequence[bool]) -> None:
        """wanted: whether there are gradients of hidden states, weight and bias; a frozen head has none."""
        self.log_probability = torch.zeros(len(hidden), dtype=torch.float32, device=hidden.device)
        self.correct = torch.empty(len(hidden), dtype=torch.bool, device=hidden.device)
        self.hidden = torch.empty_like(hidden) if wanted[0] else None
        # Where the products have the format of the buffer, the first chunk overwrites it, which saves zeroing it.
        self.weight_is_set = hidden.dtype != accumulator(weight) or len(hidden) == 0
        buffer = torch.zeros_like if self.weight_is_set else torch.empty_like
        self.weight = buffer(weight, dtype=accumulator(weight)) if wanted[1] else None
        self.bias = torch.zeros_like(bias, dtype=accumulator(bias)) if bias is not None and wanted[2] else None


class _HeadPass:
    """One pass over the targets in chunks. Products run in the number format of ``hidden``.

    hidden: [N, D].
    weight: [V, D].
    bias: [V] or None.
    target: int64 [N].
    outputs: where the results are written.
    cap: logits are cap * tanh(product / cap); None for the product itself.
    """

    def __init__(
        self,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        target: Tensor,
        outputs: _HeadOutputs,
        cap: float | None,
    ) -> None:
        self.hidden, self.target, self.outputs, self.cap = hidden, target, outputs, cap
        self.rows = min(_chunk_rows(weight.shape[0]), max(1, len(target)))
        self.weight, self.bias = weight.to(hidden.dtype), None if bias is None else bias.to(hidden.dtype)
        # One table serves all chunks: fresh memory of this size costs more time than the arithmetic on it.
        format = torch.float32 if gives_float32(hidden) else hidden.dtype
        self.table = hidden.new_empty(self.rows, weight.shape[0], dtype=format)
        # The slopes of capped logits, d logit / d product = 1 - (logit / cap)^2, of the chunk in the table.
        self.slopes = self.table.new_empty(0)

    def probabilities(self, part: slice) -> Tensor:
        """float32 [n, V], the softmax at the targets in ``part``; the next call overwrites it."""
        states = self.hidden[part]
        found = logits_of(states, self.weight, self.bias, self.table[: len(states)])
        if self.cap is not None:
            bounded = found.div_(self.cap).tanh_()
            self.slopes = 1.0 - bounded.square()
            found = bounded.mul_(self.cap)
        return torch.softmax(found, dim=-1, out=found)

    def write_log_probabilities(self, part: slice, softmax: Tensor) -> None:
        """Write ``log_probability`` and ``correct`` of the targets in ``part``. softmax: float32 [n, V]."""
        target, outputs = self.target[part], self.outputs
        probability = softmax.gather(1, target[:, None])[:, 0]
        outputs.log_probability[part] = probability.log()
        # Equal to a comparison with the argmax, which is several times slower on a CPU.
        outputs.correct[part] = probability >= softmax.amax(dim=-1)

    def correct_lost(self) -> bool:
        """Compute the log-probabilities of hopeless tokens from their logits; returns whether there are any.

        It waits for a GPU, so it is called once, after all chunks.
        """
        lost = self.outputs.log_probability < SMALLEST_LOGARITHM
        if not bool(lost.any()):
            return False
        for part in _chunks(0, len(self.target), self.rows):
            rows = torch.nonzero(lost[part])[:, 0]
            if len(rows):
                found = logits_of(self.hidden[part][rows], self.weight, self.bias)
                if self.cap is not None:
                    found = self.cap * torch.tanh(found / self.cap)
                exact = torch.log_softmax(found, dim=-1).gather(1, self.target[part][rows, None])[:, 0]
                self.outputs.log_probability[part][rows] = exact
        return True

    def add_gradients(self, part: slice, softmax: Tensor, gradient: Tensor) -> None:
        """Add what the targets in ``part`` contribute to the gradients: d log p / d logits = onehot - softmax.

        softmax: float32 [n, V].
        gradient: float32 [n], the gradient of the loss with respect to the log-probabilities.
        """
        if self.cap is not None:
            self._add_capped_gradients(part, softmax, gradient)
            return
        target, outputs = self.target[part], self.outputs
        probability, scale = softmax.to(self.weight.dtype), gradient[:, None].to(self.weight.dtype)
        if outputs.hidden is not None:
            outputs.hidden[part] = (self.weight[target] - torch.mm(probability, self.weight)) * scale
        if outputs.weight is not None:
            scaled = self.hidden[part] * scale
            # The sum over chunks stays in the format of the buffer: float32 also where the products are 16-bit.
            if outputs.weight.dtype == scaled.dtype:
                outputs.weight.addmm_(probability.t(), scaled, beta=1.0 if outputs.weight_is_set else 0.0, alpha=-1.0)
            else:
                outputs.weight.sub_(torch.mm(probability.t(), scaled))
            outputs.weight_is_set = True
            outputs.weight.index_add_(0, target, scaled.to(outputs.weight.dtype))
        if outputs.bias is not None:
            outputs.bias.sub_((softmax * gradient[:, None]).sum(0)).index_add_(0, target, gradient)

    def _add_capped_gradients(self, part: slice, softmax: Tensor, gradient: Tensor) -> None:
        """As ``add_gradients``, where d log p / d products = (onehot - softmax) * slopes."""
        target, outputs = self.target[part, None], self.outputs
        table = softmax.neg_().scatter_add_(1, target, torch.ones_like(gradient)[:, None])
        table.mul_(self.slopes).mul_(gradient[:, None])
        if outputs.bias is not None:
            outputs.bias.add_(table.sum(0))
        table = table.to(self.weight.dtype)
        if outputs.hidden is not None:
            outputs.hidden[part] = torch.mm(table, self.weight)
        if outputs.weight is not None:
            product = torch.mm(table.t(), self.hidden[part])
            if outputs.weight_is_set:
                outputs.weight.add_(product)
            else:
                outputs.weight.copy_(product)
            outputs.weight_is_set = True

    def run(self, gradient: Tensor | None, *, log_probabilities: bool = True) -> None:
        """The pass where the gradient of all targets is known, or none is wanted.

        gradient: float32 [N] or None.
        log_probabilities: whether to write them.
        """
        for part in _chunks(0, len(self.target), self.rows):
            softmax = self.probabilities(part)
            if log_probabilities:
                self.write_log_probabilities(part, softmax)
            if gradient is not None:
                self.add_gradients(part, softmax, gradient[part])
        if log_probabilities:
            self.correct_lost()

    def run_by_blocks(self, hint: BlockwiseGradient) -> Tensor | None:
        """The pass where the gradient of a block is known after its log-probabilities; returns it, float32 [N].

        Only of a block that does not fit into one chunk, all chunks but the last are computed twice.
        Returns None where tokens are so improbable that gradients came from rounded log-probabilities: the gradients in
        ``outputs`` are then of no use. It is detected at the end, because a GPU would be waited for at each chunk.
        """
        gradient = torch.zeros_like(self.outputs.log_probability)
        for begin, end in _whole_blocks(hint.block, self.rows):
            parts = _chunks(begin, end, self.rows)
            for part in parts:
                softmax = self.probabilities(part)
                self.write_log_probabilities(part, softmax)
            gradient[begin:end] = hint.gradient(self.outputs.log_probability)[begin:end]
            self.add_gradients(parts[-1], softmax, gradient[parts[-1]])
            for part in parts[:-1]:
                self.add_gradients(part, self.probabilities(part), gradient[part])
        return None if self.correct_lost() else gradient


def _chunks(begin: int, end: int, rows: int) -> list[slice]:
    """Slices of at most ``rows`` from ``begin`` to ``end``; all but the first are full."""
    first = begin + ((end - begin) % rows or rows)
    return [slice(max(begin, stop - rows), stop) for stop in range(first, end + 1, rows)]


def _whole_blocks(block: Tensor, rows: int) -> list[tuple[int, int]]:
    """All targets in ranges (begin, end) of at most ``rows`` that split no block; a larger block is a range alone.

    block: int64 [N] on the host. Blocks may be nested.
    """
    if not len(block):
        return []
    place = torch.arange(len(block))
    last = place.new_zeros(int(block.max()) + 1).scatter_reduce(0, block, place, "amax")
    ends = (torch.nonzero(last[block].cummax(0).values == place)[:, 0] + 1).tolist()
    found, begin = [], 0
    for end, following in pairwise([*ends, len(block) + rows + 1]):
        if following - begin > rows:
            found.append((begin, end))
            begin = end
    return found


class _TargetLogProbability(torch.autograd.Function):
    """Computes gradients in the forward pass if a hint gives the gradient that the backward pass will receive.

    A loss that is linear in the log-probabilities with known weights (supervised fine-tuning) knows it beforehand, a
    loss over blocks (groups of replies) as soon as a block is computed; both save a second product with the
    vocabulary. If the backward pass receives another gradient than the hint, the pass is repeated with it.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        target: Tensor,
        hint: GradientHint,
        cap: float | None,
    ) -> tuple[Tensor, Tensor]:
        wanted = ctx.needs_input_grad[:3]
        hint = hint if any(wanted) else None
        outputs = _HeadOutputs(hidden, weight, bias, NOTHING if hint is None else wanted)
        head_pass = _HeadPass(hidden, weight, bias, target, outputs, cap)
        if isinstance(hint, BlockwiseGradient):
            hint = head_pass.run_by_blocks(hint)
        else:
            head_pass.run(hint)
        ctx.hint, ctx.outputs, ctx.cap = hint, None if hint is None else outputs, cap
        ctx.save_for_backward(hidden, weight, bias, target)
        ctx.mark_non_differentiable(outputs.correct)
        return outputs.log_probability, outputs.correct

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        gradient = gradients[0]
        hidden, weight, bias, target = ctx.saved_tensors
        outputs: _HeadOutputs | None = ctx.outputs
        if outputs is None or not torch.equal(ctx.hint, gradient):
            outputs = _HeadOutputs(hidden, weight, bias, ctx.needs_input_grad)
            _HeadPass(hidden, weight, bias, target, outputs, ctx.cap).run(gradient, log_probabilities=False)
        ctx.outputs = None  # the buffers become gradients; a second backward pass computes its own
        return outputs.hidden, outputs.weight, outputs.bias, None, None, None


def target_log_probabilities(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    target: Tensor,
    gradient_hint: GradientHint = None,
    *,
    cap: float | None = None,
) -> tuple[Tensor, Tensor]:
    """log softmax(hidden @ weight.T + bias)[target], float32 [N], and whether target has the highest logit, bool [N].

    hidden: [N, D], in the number format of the computation.
    weight: [V, D], a parameter; one without gradient (a frozen head) costs no product for it.
    bias: [V], a parameter, or None.
    target: int64 [N].
    gradient_hint: the gradient of the loss with respect to the log-probabilities, float32 [N], where it is known
        beforehand, or how to compute it block by block.
    cap: the logits are cap * tanh(product / cap) instead of the product of hidden states and head; None for no cap.
    """
    # Decided here: inside the autograd function grad mode is always off, and needs_input_grad ignores torch.no_grad().
    hint = gradient_hint if torch.is_grad_enabled() else None
    result: tuple[Tensor, Tensor] = _TargetLogProbability.apply(  # type: ignore[no-untyped-call]
        hidden, weight, bias, target, hint, cap
    )
    return result
