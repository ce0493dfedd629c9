"""The block mask that is made from the extent of blocks, against the one that PyTorch makes from all pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from tests.model.trees import random_tree
from tunesmith.batch.example import Example
from tunesmith.batch.packed import PackedBatch, assemble_packed
from tunesmith.model.block_mask import BLOCK, Reach, packed_block_mask


def random_row(seed: int) -> PackedBatch:
    """Trees of 2 to 8 messages in one row of 2 to about 1,500 tokens."""
    draw = np.random.default_rng(seed)
    size = int(draw.choice([3, 12, 60, 200]))
    trees = [random_tree(seed * 100 + n, int(draw.integers(2, 9)), size) for n in range(int(draw.integers(1, 6)))]
    return assemble_packed([Example(number, tree) for number, tree in enumerate(trees)], "threads")


def mask_of_blocks(batch: PackedBatch, window: int | None = None) -> BlockMask:
    return packed_block_mask(batch.layout.until, None if window is None else Reach(batch.positions, window))


def mask_of_all_pairs(batch: PackedBatch, window: int | None = None) -> BlockMask:
    until, positions, reach = batch.layout.until, batch.positions, window or batch.tokens

    def sees(number: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (query < until[key]) & (positions[query] - positions[key] < reach)

    return create_block_mask(sees, None, None, batch.tokens, batch.tokens, device="cpu", BLOCK_SIZE=BLOCK)


def blocks(counts: Tensor | None, columns: Tensor | None) -> list[list[int]]:
    """The columns of each row that are listed."""
    assert counts is not None
    assert columns is not None
    rows = zip(counts[0, 0].tolist(), columns[0, 0].tolist(), strict=True)
    return [sorted(row[:count]) for count, row in rows]


def tables(mask: BlockMask) -> dict[str, list[list[int]]]:
    return {
        "partly, by query": blocks(mask.kv_num_blocks, mask.kv_indices),
        "fully, by query": blocks(mask.full_kv_num_blocks, mask.full_kv_indices),
        "partly, by key": blocks(mask.q_num_blocks, mask.q_indices),
        "fully, by key": blocks(mask.full_q_num_blocks, mask.full_q_indices),
    }


def test_the_blocks_of_200_random_rows_are_those_of_pytorch() -> None:
    several = full = 0
    for seed in range(200):
        batch = random_row(seed)
        found, expected = mask_of_blocks(batch), mask_of_all_pairs(batch)
        assert tables(found) == tables(expected)
        assert found.seq_lengths == expected.seq_lengths
        several += batch.tokens > BLOCK
        full += any(tables(found)["fully, by query"])
    assert several > 80
    assert full > 20


def test_no_block_is_lost_with_a_window_and_full_ones_are_those_of_pytorch() -> None:
    smaller = 0
    for seed in range(60):
        batch, window = random_row(seed), (1, 20, 130, 300)[seed % 4]
        found, expected = (
            tables(mask_of_blocks(batch, window)),
            tables(mask_of_all_pairs(batch, window)),
        )
        assert found["fully, by query"] == expected["fully, by query"]
        for name in ("partly, by query", "partly, by key"):
            assert all(set(theirs) <= set(ours) for ours, theirs in zip(found[name], expected[name], strict=True))
        smaller += found != tables(mask_of_blocks(batch))
    assert smaller > 5


@pytest.mark.parametrize("window", [None, 100])
def test_attention_with_it_is_that_with_the_mask_of_all_pairs(window: int | None) -> None:
    trees = [random_tree(number, 6, 120) for number in range(2)]
    batch = assemble_packed([Example(number, tree) for number, tree in enumerate(trees)], "threads")
    assert batch.tokens > 2 * BLOCK
    draw = torch.Generator().manual_seed(1)
    query, key, value = (torch.randn(1, 2, batch.tokens, 16, generator=draw) for _ in range(3))
    ours, theirs = (
        flex_attention(query, key, value, block_mask=mask)
        for mask in (mask_of_blocks(batch, window), mask_of_all_pairs(batch, window))
    )
    assert torch.equal(ours, theirs)


def test_a_long_row_needs_no_table_of_all_pairs() -> None:
    """The table of 200,000 tokens would have 40 billion entries."""
    tokens = 200_000
    mask = packed_block_mask(torch.full((tokens,), tokens))
    assert mask.shape == (1, 1, tokens, tokens)
    assert int(mask.full_kv_num_blocks.sum()) == (tokens // BLOCK) * (tokens // BLOCK - 1) // 2
