"""Padded batches of token trees: shared inputs, shifted replies, the cheapest micro-batches; planted faults."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.model.padded import seq2seq_tree
from tests.model.trees import random_tree
from tunesmith.batch.example import Example
from tunesmith.batch.padded import (
    PASS_OVERHEAD,
    PaddedBatch,
    _cheapest_groups,
    assemble_padded,
    split_inputs_and_replies,
)
from tunesmith.compose.models import families
from tunesmith.errors import InternalError
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.verify.padded_batches import find_padded_fault

START, PADDING = 1, 0

sizes = st.integers(1, 30)
replies = st.lists(sizes, min_size=1, max_size=4)
examples = st.lists(st.tuples(sizes, replies), min_size=1, max_size=12)


def made(shapes: list[tuple[int, list[int]]]) -> list[Example]:
    return [Example(10 + n, seq2seq_tree(n, own, size), seed=n) for n, (size, own) in enumerate(shapes)]


def test_a_batch_by_hand() -> None:
    tree = TokenTree(
        np.array([5, 6, 7, 8, 9, 4], np.int32),
        np.array([[0, 2, -1], [2, 5, 0], [5, 6, 0]], np.int32),
        np.array([[2, 5, 1, 1, 1], [5, 6, 1, 2, 1]], np.int32),
        2,
    )
    one = TokenTree(
        np.array([3, 9], np.int32), np.array([[0, 2, -1]], np.int32), np.array([[1, 2, 0, 1, 1]], np.int32), 1
    )
    batch = assemble_padded([Example(7, tree, 70), Example(8, one, 80)], "messages", start=START, padding=PADDING)
    assert batch.input_ids.tolist() == [[5, 6], [3, 0]]
    assert batch.attention_mask.tolist() == [[True, True], [True, False]]
    assert batch.decoder_input_ids.tolist() == [[1, 7, 8], [1, 0, 0], [1, 0, 0]]
    assert batch.input_of.tolist() == [0, 0, 1]
    assert batch.source.tolist() == [0, 1, 2, 3, 6]
    assert batch.target.tolist() == [7, 8, 9, 4, 9]
    assert batch.owner.tolist() == [0, 0, 0, 1, 2]
    assert (batch.examples, batch.seeds) == ((7, 8), (70, 80))
    assert (batch.tokens, batch.targets) == (3 + 5, 5)
    assert batch.to(torch.device("cpu")).target.tolist() == batch.target.tolist()


@given(examples, st.integers(1, 400), st.sampled_from(["threads", "messages"]))
@settings(max_examples=80, deadline=None)
def test_micro_batches_hold_every_example_once_within_the_budget_and_prove_right(
    shapes: list[tuple[int, list[int]]], tokens: int, weighting: str
) -> None:
    batches = families.padded(START, PADDING)
    waiting = {example.seed: example for example in made(shapes)}
    for batch in batches.collate(list(waiting.values()), weighting, tokens):  # type: ignore[arg-type]
        assert isinstance(batch, PaddedBatch)
        mine = [waiting.pop(seed) for seed in batch.seeds]
        assert batch.input_ids.numel() + batch.decoder_input_ids.numel() <= tokens or len(mine) == 1
        assert batches.find_fault(mine, batch, weighting) is None  # type: ignore[arg-type]
        assert batch.tokens == sum(len(example.tree.ids) for example in mine)
    assert not waiting


@given(examples)
@settings(max_examples=40, deadline=None)
def test_the_cut_costs_least(shapes: list[tuple[int, list[int]]]) -> None:
    listed = sorted(split_inputs_and_replies(example).shape for example in made(shapes[:7]))

    def cost(run: list[tuple[int, int, int, int]]) -> int:
        columns = list(zip(*run, strict=True))
        return sum(columns[0]) * max(columns[1]) + sum(columns[2]) * max(columns[3]) + PASS_OVERHEAD

    inner = range(1, len(listed))
    cuts = [(0, *chosen, len(listed)) for count in range(len(listed)) for chosen in combinations(inner, count)]
    least = min(sum(cost(listed[a:b]) for a, b in pairwise(cut)) for cut in cuts)
    found = _cheapest_groups(listed, 10**9)
    assert [index for run in found for index in run] == list(range(len(listed)))
    assert sum(cost([listed[index] for index in run]) for run in found) == least


@pytest.mark.parametrize("seed", range(12))
def test_in_any_tree_a_reply_has_all_that_its_thread_holds_before_it_as_input(seed: int) -> None:
    example = Example(seed, random_tree(seed, messages=8))
    batch = assemble_padded([example], "messages", start=START, padding=PADDING)
    assert find_padded_fault([example], batch, "messages", start=START) is None
    assert batch.targets == len(example.tree.targets())


def test_a_reply_without_an_input_is_refused() -> None:
    tree = seq2seq_tree(0)
    spans = tree.spans.copy()
    spans[0, [0, 2]] = 0, -1
    with pytest.raises(InternalError, match="example 4 has a reply without an input"):
        split_inputs_and_replies(Example(4, replace(tree, spans=spans)))


FAULTS: dict[str, tuple[str, Callable[[PaddedBatch], PaddedBatch]]] = {
    "not shifted": ("one place late", lambda b: replace(b, decoder_input_ids=b.decoder_input_ids.roll(-1, 1))),
    "another start": (
        "one place late",
        lambda b: replace(b, decoder_input_ids=torch.where(b.decoder_input_ids == START, 9, b.decoder_input_ids)),
    ),
    "sources early": ("not predicted from", lambda b: replace(b, source=b.source - 1)),
    "owners mixed up": ("not predicted from", lambda b: replace(b, owner=b.owner.flip(0))),
    "inputs mixed up": ("input of another", lambda b: replace(b, input_of=b.input_of.flip(0))),
    "input changed": ("in the threads alone", lambda b: replace(b, input_ids=b.input_ids + 1)),
    "padding read": ("in the threads alone", lambda b: replace(b, attention_mask=torch.ones_like(b.attention_mask))),
    "target changed": ("", lambda b: replace(b, target=b.target + 1)),
    "weights lost": ("in the threads alone", lambda b: replace(b, weight=b.weight * 2)),
    "weights uneven": ("different weights", lambda b: replace(b, weight=torch.arange(b.targets).float())),
    "another example": ("other examples", lambda b: replace(b, examples=b.examples[::-1])),
    "a target too many": ("belong to no reply", lambda b: replace(b, target=torch.cat([b.target, b.target[:1]]))),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_seen_by_the_proof(fault: str) -> None:
    message, change = FAULTS[fault]
    listed = made([(9, [4, 6]), (5, [7]), (12, [3, 5, 8])])
    batch = assemble_padded(listed, "threads", start=START, padding=PADDING)
    assert find_padded_fault(listed, batch, "threads", start=START) is None
    found = find_padded_fault(listed, change(batch), "threads", start=START)
    assert found is not None
    assert message in found
