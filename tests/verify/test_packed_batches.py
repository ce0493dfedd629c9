"""The proof of packed batches: every wrong layout of random trees is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from tests.model.trees import random_tree
from tunesmith.batch.example import Example
from tunesmith.batch.packed import PackedBatch, assemble_packed
from tunesmith.verify.packed_batches import find_packed_fault


def with_until(batch: PackedBatch, until: torch.Tensor) -> PackedBatch:
    return replace(batch, layout=replace(batch.layout, until=until))


def siblings_seen(batch: PackedBatch) -> torch.Tensor:
    """Every token is seen by all that follow it in its example."""
    ends = torch.tensor(batch.layout.trees).cumsum(0)
    return torch.repeat_interleave(ends, torch.tensor(batch.layout.trees))


def roots_seen(batch: PackedBatch) -> torch.Tensor:
    """What all of an example sees is seen by the examples after it, too."""
    until = batch.layout.until
    return torch.where(until == siblings_seen(batch), torch.full_like(until, batch.tokens), until)


def ancestors_hidden(batch: PackedBatch) -> torch.Tensor:
    """Every token is seen only within its segment."""
    sizes = torch.tensor(batch.layout.sizes)
    return torch.repeat_interleave(sizes.cumsum(0), sizes)


FAULTS: dict[str, tuple[Callable[[PackedBatch], PackedBatch], str]] = {
    "examples see each other": (
        lambda batch: with_until(batch, roots_seen(batch)),
        "sees tokens of the example before it",
    ),
    "siblings see each other": (lambda batch: with_until(batch, siblings_seen(batch)), "example"),
    "replies do not see their question": (lambda batch: with_until(batch, ancestors_hidden(batch)), "example"),
    "positions run on": (lambda batch: replace(batch, positions=torch.arange(batch.tokens)), "are not 0, 1, 2"),
    "targets are their own sources": (lambda batch: replace(batch, source=batch.source + 1), "example"),
    "targets are shifted": (lambda batch: replace(batch, target=batch.target.roll(1)), "is a target"),
    "weights are lost": (lambda batch: replace(batch, weight=torch.ones_like(batch.weight)), "is a target"),
    "a weight is halved": (lambda batch: replace(batch, weight=batch.weight // 2), "is a target"),
    "other tokens": (lambda batch: replace(batch, ids=batch.ids.flip(0)), "is no beginning of a thread"),
    "other examples": (lambda batch: replace(batch, examples=batch.examples[::-1]), "other examples than the step"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str) -> None:
    examples = [Example(number, random_tree(number)) for number in range(6)]
    assert any(len(set(example.tree.spans[:, 4].tolist())) > 1 for example in examples)
    batch = assemble_packed(examples, "threads")
    assert find_packed_fault(examples, batch, "threads") is None
    change, says = FAULTS[fault]
    found = find_packed_fault(examples, change(batch), "threads")
    assert found is not None
    assert says in found


def test_siblings_that_see_each_other_are_found_where_positions_say_nothing() -> None:
    """A row whose positions were made for the wrong layout too, so that only the tokens show it."""
    examples = [Example(number, random_tree(number)) for number in range(6)]
    batch = assemble_packed(examples, "threads")
    until = siblings_seen(batch)
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), torch.tensor(batch.layout.trees).cumsum(0)[:-1]])
    positions = torch.arange(batch.tokens) - torch.repeat_interleave(starts, torch.tensor(batch.layout.trees))
    found = find_packed_fault(examples, replace(with_until(batch, until), positions=positions), "threads")
    assert found is not None
    assert "is no beginning of a thread" in found
