"""Faults that somebody could make in preferences: each breaks the equality with the loss by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from tests.model.gradients import assert_same
from tests.model.rankings import dialogues
from tests.model.test_preference_equivalence import by_hand, examples_of, made, one_batch, ours
from tunesmith.batch.columns import REFERENCE
from tunesmith.batch.example import Example
from tunesmith.compose.models.families import PACKED
from tunesmith.model.policy import Policy


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def one_late(examples: list[Example]) -> list[Example]:
    """A mask that leaves the first token of every reply out."""
    return [_with_spans(each, 0) for each in examples]


def without_the_end(examples: list[Example]) -> list[Example]:
    return [_with_spans(each, 1) for each in examples]


def _with_spans(example: Example, column: int) -> Example:
    spans = example.tree.spans.copy()
    longer = spans[:, 1] - spans[:, 0] > 1
    if column == 0:
        spans[longer, 0] += 1
        spans[longer, 2] = spans[longer, 0] - 1
    else:
        spans[longer, 1] -= 1
    return replace(example, tree=replace(example.tree, spans=spans))


def exchanged_sides(examples: list[Example]) -> list[Example]:
    found = []
    for each in examples:
        replies = each.tree.replies.copy()
        replies[:, 2] = replies[:, 2].max() - replies[:, 2]
        found.append(replace(each, tree=replace(each.tree, replies=replies)))
    return found


def references_of_others(examples: list[Example]) -> list[Example]:
    """The values of every example the other way round: those of its other replies."""
    return [replace(each, columns={REFERENCE: each.columns[REFERENCE][::-1].copy()}) for each in examples]


def groups_of_one_tree_as_one(examples: list[Example]) -> list[Example]:
    found = []
    for each in examples:
        replies = each.tree.replies.copy()
        replies[:, 1] = 0
        found.append(replace(each, tree=replace(each.tree, replies=replies)))
    return found


FAULTS: list[Callable[[list[Example]], list[Example]]] = [
    one_late,
    without_the_end,
    exchanged_sides,
    references_of_others,
    groups_of_one_tree_as_one,
]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_in_the_examples_breaks_the_equality(fault: Callable[[list[Example]], list[Example]]) -> None:
    model, reference = made("llama"), made("llama", seed=1)
    listed = dialogues()
    expected = by_hand({}, listed, model, reference)
    examples = examples_of(listed, reference)
    assert_same(ours(Policy(model), [one_batch(PACKED, examples)], {}), expected)
    with pytest.raises(AssertionError):
        assert_same(ours(Policy(model), [one_batch(PACKED, fault(examples))], {}), expected)


@pytest.mark.parametrize("fault", ["sources are shifted", "siblings see each other", "owners are moved on"])
def test_a_planted_fault_in_the_batch_breaks_the_equality(fault: str) -> None:
    model, reference = made("gpt_neox"), made("gpt_neox", seed=1)
    listed = dialogues()
    batch = one_batch(PACKED, examples_of(listed, reference))
    everything = tuple(tuple(range(index)) for index in range(len(batch.layout.sizes)))
    broken = {
        "sources are shifted": replace(batch, source=(batch.source - 1).clamp_min(0)),
        "siblings see each other": replace(batch, layout=replace(batch.layout, ancestors=everything)),
        "owners are moved on": replace(batch, owner=(batch.owner + 1) % len(batch.replies)),
    }[fault]
    with pytest.raises(AssertionError):
        assert_same(ours(Policy(model), [broken], {}), by_hand({}, listed, model, reference))
