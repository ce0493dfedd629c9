"""Tree == threads, packed == alone, split micro-batches == one: loss and every gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch.nn.attention.flex_attention import flex_attention
from transformers import PreTrainedModel

from tests.model.gradients import Found, assert_same, gradients, loss_and_gradients
from tests.model.trees import random_tree, small_model
from tunesmith.batch.example import Example, Weighting
from tunesmith.batch.packed import PackedBatch, assemble_packed, collate_packed
from tunesmith.batch.threads import split_into_threads
from tunesmith.model.attention import SegmentAttention, prepare
from tunesmith.model.attention_cuda import FlexAttention
from tunesmith.model.attention_scores import PLAIN, ScoreTerms
from tunesmith.model.dropout import ResidualDropout
from tunesmith.model.policy import Policy
from tunesmith.objectives.sft import SupervisedFineTuning

ARCHITECTURES = ("gpt_neox", "llama")


def learned(policy: Policy, batches: Sequence[PackedBatch]) -> Found:
    return loss_and_gradients(policy, SupervisedFineTuning(), batches)


def stock_loss_and_gradients(model: PreTrainedModel, threads: Sequence[PackedBatch]) -> Found:
    """Every thread alone through the unmodified forward pass and head, cross-entropy by torch."""
    model.zero_grad()
    units = sum(float(batch.weight.sum()) for batch in threads)
    total = 0.0
    for batch in threads:
        logits = model(input_ids=batch.ids[None], use_cache=False).logits[0]
        each = torch.nn.functional.cross_entropy(logits[batch.source], batch.target, reduction="none")
        loss = (each * batch.weight).sum() / units
        loss.backward()
        total += loss.item()
    return total, gradients(model)


def alone(examples: Sequence[Example], weighting: Weighting) -> list[PackedBatch]:
    once = weighting == "messages"
    threads = [thread for example in examples for thread in split_into_threads(example.tree, once=once)]
    return [assemble_packed([Example(0, thread.tree)], "threads") for thread in threads]


@pytest.mark.parametrize("weighting", ["threads", "messages"])
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable:FutureWarning")
def test_trees_in_one_row_equal_their_threads_through_the_stock_model(
    architecture: str, tied: bool, checkpointing: bool, weighting: Weighting
) -> None:
    model = small_model(architecture, tied=tied, checkpointing=checkpointing)
    examples = [Example(number, random_tree(number)) for number in range(6)]
    found = learned(Policy(model), [assemble_packed(examples, weighting)])
    assert_same(found, stock_loss_and_gradients(model, alone(examples, weighting)))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_packed_examples_equal_examples_alone(architecture: str) -> None:
    policy = Policy(small_model(architecture))
    examples = [Example(number, random_tree(number, messages=2, size=20)) for number in range(7)]
    packed = learned(policy, [assemble_packed(examples, "threads")])
    assert_same(packed, learned(policy, [assemble_packed([example], "threads") for example in examples]))


@pytest.mark.parametrize("tokens", [1, 30, 64, 10_000])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_any_split_into_micro_batches_gives_the_same_update_also_with_dropout(
    architecture: str, dropout: float, tokens: int
) -> None:
    model = small_model(architecture)
    policy = Policy(model, dropout=ResidualDropout(model, dropout, "rising") if dropout else None)
    examples = [Example(number, random_tree(number), seed=number + 1) for number in range(6)]
    whole = learned(policy, [assemble_packed(examples, "threads")])
    assert_same(learned(policy, list(collate_packed(examples, "threads", tokens))), whole)


@pytest.mark.parametrize("weighting", ["threads", "messages"])
def test_reading_thread_by_thread_equals_reading_the_tree(weighting: Weighting) -> None:
    policy = Policy(small_model("llama"))
    examples = [Example(number, random_tree(number)) for number in range(4)]
    batches = [assemble_packed(examples, weighting)]
    assert batches[0].layout.branches
    assert_same(learned(policy.with_layout("threads"), batches), learned(policy, batches))


def test_the_gradient_of_one_example_with_respect_to_another_is_exactly_zero() -> None:
    policy = Policy(small_model("gpt_neox"))
    batch = assemble_packed([Example(0, random_tree(1)), Example(1, random_tree(2))], "threads")
    embedded = policy.model.get_input_embeddings()(batch.ids[None]).detach().requires_grad_()
    layout = prepare(batch.layout, torch.float32)
    states = policy.model.base_model(
        inputs_embeds=embedded,
        position_ids=batch.positions[None],
        layout=layout,
        attention_mask=torch.empty((1, 1, 1, 0), dtype=torch.bool),
    ).last_hidden_state[0]
    border = batch.layout.trees[0]
    states[border:].square().sum().backward()
    assert torch.count_nonzero(embedded.grad[0, :border]) == 0
    assert torch.count_nonzero(embedded.grad[0, border:]) > 0


@pytest.mark.parametrize(
    "fault",
    ["siblings see each other", "examples see each other", "positions run on", "sources are shifted", "weights lost"],
)
def test_a_planted_fault_in_the_batch_breaks_the_equality(fault: str) -> None:
    model = small_model("gpt_neox")
    examples = [Example(number, random_tree(number)) for number in range(6)]
    batch = assemble_packed(examples, "threads")
    layout = batch.layout
    broken = {
        "siblings see each other": replace(batch, layout=replace(layout, ancestors=_all_before(layout.sizes, layout))),
        "examples see each other": replace(batch, layout=replace(layout, sizes=(layout.tokens,), ancestors=((),))),
        "positions run on": replace(batch, positions=torch.arange(batch.tokens)),
        "sources are shifted": replace(batch, source=(batch.source - 1).clamp_min(0)),
        "weights lost": replace(batch, weight=torch.ones_like(batch.weight)),
    }[fault]
    expected = stock_loss_and_gradients(model, alone(examples, "threads"))
    with pytest.raises(AssertionError):
        assert_same(learned(Policy(model), [broken]), expected)


def _all_before(sizes: tuple[int, ...], layout: object) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(range(index)) for index in range(len(sizes)))


@pytest.mark.parametrize(
    "terms",
    [
        PLAIN,
        ScoreTerms(window=5),
        ScoreTerms(softcap=0.5),
        ScoreTerms(sinks=torch.tensor([1.0, -1.0, 0.0, 2.0])),
        ScoreTerms(0.5, torch.tensor([1.0, -1.0, 0.0, 2.0]), 5),
    ],
    ids=["plain", "window", "softcap", "sinks", "all"],
)
def test_the_block_mask_for_gpus_says_the_same_as_the_segments(terms: ScoreTerms) -> None:
    """FlexAttention runs unfused without a GPU; its mask is the rule itself, so both computations check each other."""
    batch = assemble_packed([Example(number, random_tree(number)) for number in range(3)], "threads")
    draw = torch.Generator().manual_seed(3)
    query, key, value = (torch.randn(1, 4, batch.tokens, 16, generator=draw) for _ in range(3))
    segments = prepare(batch.layout, torch.float32)
    assert isinstance(segments, SegmentAttention)
    flex = FlexAttention(batch.layout, torch.float32, lambda: flex_attention)
    ours, theirs = (kind.attend(query, key, value, 0.25, terms) for kind in (segments, flex))
    assert torch.allclose(ours, theirs, atol=1e-5)
    if terms is not PLAIN:
        assert not torch.allclose(ours, segments.attend(query, key, value, 0.25), atol=1e-2)
