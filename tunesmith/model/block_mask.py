"""The block mask of FlexAttention for a packed row, made from the extent of blocks and not from all pairs of tokens.

``create_block_mask`` of PyTorch writes the table of all pairs, T x T numbers (1.8 GiB for 16,000 tokens). The rule of
``batch.packed`` allows a shortcut: of a block of keys only the smallest and the largest ``until`` matter.
Shapes: T tokens, n = ceil(T / BLOCK) blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask

BLOCK = 128
"""Tokens of a block, the size that the kernels of FlexAttention read at once."""


@dataclass(frozen=True, slots=True, eq=False)
class Reach:
    """How far back a token sees in its thread.

    positions: int64 [T], the position of each token in its thread.
    window: a token sees itself and the ``window - 1`` tokens before it.
    """

    positions: Tensor
    window: int


def packed_block_mask(until: Tensor, reach: Reach | None = None) -> BlockMask:
    """The mask of "token i sees token j exactly when ``j <= i < until[j]``", in O(n^2) and without waiting for a GPU.

    until: int64 [T].
    reach: None for a token that sees all tokens before it in its thread.

    Without a window the blocks are exactly those of ``create_block_mask``. With one, some blocks may be listed as
    partly seen in which nothing is seen, which changes no result, because the rule is applied within such blocks.
    """
    tokens = len(until)
    seen, full = _seen_blocks(until, reach)

    def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (query < until[key])

    def sees_near(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        assert reach is not None
        return sees(batch, head, query, key) & (reach.positions[query] - reach.positions[key] < reach.window)

    return BlockMask.from_kv_blocks(
        *_ordered(seen & ~full),
        *_ordered(full),
        BLOCK_SIZE=(BLOCK, BLOCK),
        mask_mod=sees if reach is None else sees_near,
        seq_lengths=(tokens, tokens),
    )


def _seen_blocks(until: Tensor, reach: Reach | None) -> tuple[Tensor, Tensor]:
    """(seen, full), bool [n, n] each: whether any and whether every query of a block sees any and every key of another.

    A block of keys before a block of queries is seen if its largest ``until`` is after the first query, and full if
    its smallest is after the last. A token always sees itself, so the blocks of the diagonal are seen and not full.
    The last block of queries is padded and therefore never full.
    """
    tokens = len(until)
    blocks = -(-tokens // BLOCK)
    number = torch.arange(blocks, device=until.device)
    first = number * BLOCK
    before = number[None, :] < number[:, None]
    largest, smallest = _extent(until, blocks)
    seen = (before & (largest[None, :] > first[:, None])) | (number[None, :] == number[:, None])
    full = before & (smallest[None, :] > (first + BLOCK - 1)[:, None]) & (first + BLOCK <= tokens)[:, None]
    if reach is not None:
        highest, lowest = _extent(reach.positions, blocks)
        seen &= lowest[:, None] - highest[None, :] < reach.window
        full &= highest[:, None] - lowest[None, :] < reach.window
    return seen, full


def _extent(values: Tensor, blocks: int) -> tuple[Tensor, Tensor]:
    """(largest, smallest) value of each block, int64 [n]. values: int64 [T]; the last one fills the last block."""
    filled = torch.cat([values, values[-1:].expand(blocks * BLOCK - len(values))]).view(blocks, BLOCK)
    return filled.amax(dim=1), filled.amin(dim=1)


def _ordered(chosen: Tensor) -> tuple[Tensor, Tensor]:
    """A table of blocks, bool [n, n], as FlexAttention reads it.

    Returns the number of chosen blocks in each row, int32 [1, 1, n], and their columns first, int32 [1, 1, n, n].
    """
    counts = chosen.sum(dim=-1, dtype=torch.int32)
    columns = torch.argsort(chosen.to(torch.int32), dim=-1, descending=True, stable=True).to(torch.int32)
    return counts[None, None], columns[None, None]
