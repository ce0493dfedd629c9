"""Attention in one call for a segment and those below it equals one call for each segment."""

from __future__ import annotations

import pytest
import torch

from tests.model.trees import random_tree
from tunesmith.batch.example import Example
from tunesmith.batch.packed import Layout, PackedBatch, assemble_packed
from tunesmith.model import attention
from tunesmith.model.attention import segment_attention
from tunesmith.model.attention_scores import PLAIN, ScoreTerms


@pytest.fixture(scope="module")
def batch() -> PackedBatch:
    return assemble_packed([Example(number, random_tree(number)) for number in range(6)], "threads")


@pytest.mark.parametrize(
    "terms",
    [PLAIN, ScoreTerms(window=5), ScoreTerms(0.5, torch.tensor([1.0, -1.0, 0.0, 2.0]), 5)],
    ids=["plain", "window", "all"],
)
def test_joined_segments_have_the_values_and_gradients_of_separate_ones(
    terms: ScoreTerms, batch: PackedBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = torch.Generator().manual_seed(3)
    states = [torch.randn(1, 4, batch.tokens, 16, generator=draw, requires_grad=True) for _ in range(3)]
    weights = torch.randn(1, 4, batch.tokens, 16, generator=draw)
    found, calls = [], []
    for cost in (0, 150, 10**6):
        monkeypatch.setattr(attention, "CALL_COST", cost)
        layout = segment_attention(batch.layout, torch.float32)
        attended = layout.attend(*states, None, terms)
        found.append([attended, *torch.autograd.grad((attended * weights).sum(), states)])
        calls.append(len(layout.sizes))
    assert calls[0] == len(batch.layout.sizes) > calls[1] > calls[2] == len(batch.layout.trees)
    for other in found[1:]:
        for one, expected in zip(other, found[0], strict=True):
            assert torch.allclose(one, expected, atol=1e-5)


@pytest.mark.parametrize(("size", "calls"), [(4, 1), (200, 5)])
def test_short_answers_are_joined_with_their_question_and_long_ones_are_not(size: int, calls: int) -> None:
    until = torch.tensor([5, 2, 3, 4, 5]).mul(size).repeat_interleave(size)
    layout = Layout((size,) * 5, ((), (0,), (0,), (0,), (0,)), (5 * size,), until)
    assert len(segment_attention(layout, torch.float32).sizes) == calls
