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
    highest = states.new_full((len(states),), -torch.inf, dtype=torch.float32)
    total = torch.zeros_like(highest)
    found = torch.zeros(len(target), dtype=torch.float32, device=states.device)
    rows = _block_size(len(states), ROWS)
    columns = COLUMNS if states.device.type == "cpu" else len(weight)
    # The targets in the order of the blocks, so that those of a block are a slice.
    across = -(-len(weight) // columns)
    block = state // rows * across + target // columns
    counts = torch.bincount(block, minlength=-(-len(states) // rows) * across).tolist()
    targets = iter(torch.split(torch.argsort(block), counts))
    for begin in range(0, len(states), rows):
        chosen = slice(begin, begin + rows)
        for first in range(0, len(weight), columns):
            part = slice(first, first + columns)
            logits = _logits(states[chosen], weight[part], None if bias is None else bias[part], cap)
            inside = next(targets)
            if len(inside):
                found[inside] = logits[state[inside] - begin, target[inside] - first]
            above = torch.maximum(highest[chosen], logits.amax(dim=-1))
            # exp2 takes a third of the time of exp on a CPU.
            powers = logits.sub_(above[:, None]).mul_(LOG2_E).exp2_().sum(dim=-1)
            total[chosen] = total[chosen] * (highest[chosen] - above).exp() + powers
            highest[chosen] = above
    return found - (highest + total.log())[state], found >= highest[state]


def _block_size(count: int, largest: int) -> int:
    """The size of equal blocks of at most ``largest``; the product of a block of few rows is slow."""
    return max(1, -(-count // max(1, -(-count // largest))))


def _logits(states: Tensor, weight: Tensor, bias: Tensor | None, cap: float | None) -> Tensor:
    """float32 [rows, columns]."""
    table = torch.nn.functional.linear(
        states, weight.to(states.dtype), None if bias is None else bias.to(states.dtype)
    ).float()
    return table if cap is None else table.div_(cap).tanh_().mul_(cap)
