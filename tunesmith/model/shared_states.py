"""Log-probabilities of several tokens after one hidden state, without gradients: each state is projected once.

The answers to a question have the state before their first token in common. The logits are computed in blocks that stay
in the cache of the processor; only their maximum, the sum of their exponentials and the logits of targets are kept.
Shapes: S states, N targets, D hidden units, V tokens in the vocabulary.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

ROWS, COLUMNS = 512, 1024
"""Size of a block of logits on a CPU: 2 MB."""
LOG2_E = math.log2(math.e)


@torch.no_grad()
def shared_log_probabilities(
    states: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    state: Tensor,
    target: Tensor,
    *,
    cap: float | None = None,
) -> tuple[Tensor, Tensor]:
    """log softmax(states @ weight.T + bias)[state, target], float32 [N], and whether target has the highest logit.

    states: [S, D], in the number format of the computation.
    weight, bias: [V, D] and [V], or None for no bias.
    state, target: int64 [N].
    cap: the logits are cap * tanh(product / cap); None for no cap.
    """
    rows = _block_size(len(states), ROWS)
    columns = COLUMNS if states.device.type == "cpu" else len(weight)
    # The targets in the order of the blocks, so that those of a block are a slice, as places in the block.
    across = -(-len(weight) // columns)
    block = state // rows * across + target // columns
    counts = torch.bincount(block, minlength=-(-len(states) // rows) * across).tolist()
    order = torch.argsort(block)
    width = (len(weight) - target // columns * columns).clamp(max=columns)
    places = iter(torch.split((state % rows * width + target % columns)[order], counts))
    found, bounds = list[Tensor](), list[tuple[Tensor, Tensor]]()
    for begin in range(0, len(states), rows):
        chosen = states[begin : begin + rows]
        highest = chosen.new_full((len(chosen),), -torch.inf, dtype=torch.float32)
        total = torch.zeros_like(highest)
        for first in range(0, len(weight), columns):
            part = slice(first, first + columns)
            logits = _logits(chosen, weight[part], None if bias is None else bias[part], cap)
            inside = next(places)
            if len(inside):
                found.append(logits.view(-1).index_select(0, inside))
            above = torch.maximum(highest, logits.amax(dim=-1))
            # exp2 takes a third of the time of exp on a CPU.
            exponents = torch.add((above * -LOG2_E)[:, None], logits, alpha=LOG2_E, out=logits)
            total = total.mul_(highest.sub_(above).exp_()).add_(exponents.exp2_().sum(dim=-1))
            highest = above
        bounds.append((highest, total))
    highest, total = (torch.cat(parts) for parts in zip(*bounds, strict=True))
    logit = torch.empty(len(target), device=states.device).index_copy_(0, order, torch.cat(found))
    return logit - (highest + total.log())[state], logit >= highest[state]


def _block_size(count: int, largest: int) -> int:
    """The size of equal blocks of at most ``largest``; the product of a block of few rows is slow."""
    return max(1, -(-count // max(1, -(-count // largest))))


def _logits(states: Tensor, weight: Tensor, bias: Tensor | None, cap: float | None) -> Tensor:
    """float32 [rows, columns]."""
    table = torch.nn.functional.linear(
        states, weight.to(states.dtype), None if bias is None else bias.to(states.dtype)
    ).float()
    return table if cap is None else table.div_(cap).tanh_().mul_(cap)
