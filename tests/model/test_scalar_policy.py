"""Replies scored in their tree == every sequence alone through the stock classification model, and every gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from tests.model.rankings import changed_replies
from tests.model.trees import SIZES, VOCABULARY
from tunesmith.batch.example import Example
from tunesmith.batch.packed import PackedBatch, assemble_packed, collate_packed
from tunesmith.errors import RecipeError
from tunesmith.model.dropout import ResidualDropout
from tunesmith.model.reward_model import head_of, new_reward_model, set_padding
from tunesmith.model.scalar_policy import ScalarPolicy
from tunesmith.objectives.ranking import RewardRanking
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.verify.self_test import self_test_scalars

RELATIVE = 1e-5
ARCHITECTURES = ("gpt_neox", "llama")
PADDING = 3


def small_reward_model(architecture: str, seed: int = 0) -> PreTrainedModel:
    model = new_reward_model({**SIZES[architecture], "architecture": architecture}, VOCABULARY, seed)
    with torch.no_grad():
        for parameter in model.parameters():  # a fresh model says little; give differences room to show
            parameter.mul_(2.5)
    set_padding(model, PADDING)
    return model


def ranked_tree(seed: int, replies: int, turns: int = 1) -> TokenTree:
    """A prompt with some replies of ranks 0, 1, ... as its children.

    With a second turn the best one is answered, and the answer has two ranked replies.
    """
    draw = np.random.default_rng(seed)
    parents = [-1, *[0] * replies] if turns == 1 else [-1, 0, 1, 1, *[0] * (replies - 1)]
    ranks = {1: 0, **{index: 1 + index for index in range(2, replies + 1)}}
    if turns == 2:
        ranks = {1: 0, 2: 0, 3: 1, **{index: index - 3 for index in range(4, replies + 3)}}
    sizes = draw.integers(2, 9, len(parents))
    ends = np.cumsum(sizes)
    segments = np.stack([ends - sizes, ends, np.array(parents)], axis=1).astype(np.int32)
    spans = [(ends[m] - sizes[m] + (sizes[m] > 3), ends[m], ends[m] - sizes[m], m, 1) for m in ranks]
    return TokenTree(
        draw.integers(PADDING + 1, VOCABULARY, int(ends[-1])).astype(np.int32),
        segments,
        np.array(sorted(spans), np.int32),
        len(parents) - len(set(parents)) + 1,
        replies=np.array([(m, parents[m], rank) for m, rank in sorted(ranks.items())], np.int32),
        scores=np.full(len(ranks), np.nan, np.float32),
    )


def examples() -> list[Example]:
    trees = [ranked_tree(0, 2), ranked_tree(1, 4), ranked_tree(2, 3, turns=2), ranked_tree(3, 2)]
    return [Example(number, tree, seed=number + 1) for number, tree in enumerate(trees)]


def sequences(trees: Sequence[TokenTree]) -> list[torch.Tensor]:
    """The ids up to the end of every ranked reply, in the order of the replies."""
    found = []
    for tree in trees:
        for message in tree.replies[:, 0].tolist():
            end = next(span[1] for span in tree.spans.tolist() if span[3] == message)
            segment = next(s for s in range(len(tree.segments)) if tree.segments[s, 0] < end <= tree.segments[s, 1])
            found.append(torch.from_numpy(tree.ids[tree.thread(segment)]).long())
    return found


Gradients = dict[str, torch.Tensor]


def our_scores_and_gradients(
    policy: ScalarPolicy, batches: Sequence[PackedBatch]
) -> tuple[torch.Tensor, float, Gradients]:
    objective = RewardRanking(l2=0.01)
    units = sum(objective.units(batch) for batch in batches)
    policy.model.zero_grad()
    policy.train()
    scores, total = [], 0.0
    for batch in batches:
        part = objective(policy, batch, units)
        part.loss.backward()
        total += part.loss.item()
        with torch.no_grad():
            scores.append(policy.scalars(batch, batch.replies.end))
    return torch.cat(scores), total, gradients(policy.model)


def stock_scores_and_gradients(
    model: PreTrainedModel, trees: Sequence[TokenTree]
) -> tuple[torch.Tensor, float, Gradients]:
    """Every sequence alone through the unmodified classification model, the loss written out for every group."""
    model.zero_grad()
    scores = torch.cat([model(input_ids=ids[None]).logits[:, 0] for ids in sequences(trees)])
    losses, number = [], 0
    for tree in trees:
        rows = [(number + row, group, rank) for row, (_, group, rank) in enumerate(tree.replies.tolist())]
        for chosen in sorted({group for _, group, _ in rows}):
            pairs = [(a, b) for a, g, r in rows for b, h, s in rows if g == h == chosen and r < s]
            better, worse = scores[[a for a, _ in pairs]], scores[[b for _, b in pairs]]
            each = -torch.nn.functional.logsigmoid(better - worse) + 0.005 * (better**2 + worse**2)
            losses.append(each.mean())
        number += len(rows)
    loss = torch.stack(losses).mean()
    loss.backward()
    return scores.detach(), loss.item(), gradients(model)


def gradients(model: PreTrainedModel) -> Gradients:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same(found: tuple[torch.Tensor, float, Gradients], expected: tuple[torch.Tensor, float, Gradients]) -> None:
    assert torch.allclose(found[0], expected[0], rtol=RELATIVE, atol=RELATIVE)
    assert found[1] == pytest.approx(expected[1], rel=RELATIVE)
    assert found[2].keys() == expected[2].keys()
    for name, gradient in expected[2].items():
        difference = (found[2][name] - gradient).norm() / gradient.norm().clamp_min(1e-12)
        # Key biases have a gradient of zero in exact arithmetic; what is left there is rounding.
        assert difference < RELATIVE or gradient.norm() < 1e-7, name


@pytest.mark.parametrize("layout", ["tree", "threads"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_replies_in_their_tree_equal_sequences_alone_through_the_stock_model(architecture: str, layout: str) -> None:
    model = small_reward_model(architecture)
    found = our_scores_and_gradients(ScalarPolicy(model, layout=layout), [assemble_packed(examples(), "messages")])
    assert_same(found, stock_scores_and_gradients(model, [example.tree for example in examples()]))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_padded_batch_of_the_exported_model_gives_the_same_scores(architecture: str, tmp_path: object) -> None:
    model = small_reward_model(architecture)
    model.save_pretrained(str(tmp_path))
    stock = AutoModelForSequenceClassification.from_pretrained(str(tmp_path)).eval()
    rows = torch.nn.utils.rnn.pad_sequence(
        sequences([example.tree for example in examples()]), batch_first=True, padding_value=PADDING
    )
    batch = assemble_packed(examples(), "messages")
    with torch.no_grad():
        theirs = stock(input_ids=rows, attention_mask=(rows != PADDING).long()).logits[:, 0]
        ours = ScalarPolicy(model).scalars(batch, batch.replies.end)
    assert torch.allclose(ours, theirs, atol=RELATIVE)


@pytest.mark.parametrize("tokens", [1, 40, 10_000])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_any_split_into_micro_batches_gives_the_same_update_also_with_dropout(dropout: float, tokens: int) -> None:
    model = small_reward_model("llama")
    policy = ScalarPolicy(model, dropout=ResidualDropout(model, dropout, "uniform") if dropout else None)
    whole = our_scores_and_gradients(policy, [assemble_packed(examples(), "messages")])
    assert_same(our_scores_and_gradients(policy, list(collate_packed(examples(), "messages", tokens))), whole)


@pytest.mark.parametrize("fault", ["ends one early", "siblings see each other", "ranks turned round", "groups joined"])
def test_a_planted_fault_in_the_batch_breaks_the_equality(fault: str) -> None:
    model = small_reward_model("gpt_neox")
    batch = assemble_packed(examples(), "messages")
    replies, layout = batch.replies, batch.layout
    all_before = tuple(tuple(range(index)) for index in range(len(layout.sizes)))
    broken = {
        "ends one early": replace(batch, replies=replace(replies, end=replies.end - 1)),
        "siblings see each other": replace(batch, layout=replace(layout, ancestors=all_before)),
        "ranks turned round": replace(batch, replies=changed_replies(replies, rank=-replies.rank)),
        "groups joined": replace(batch, replies=changed_replies(replies, group=replies.group // 2)),
    }[fault]
    expected = stock_scores_and_gradients(model, [example.tree for example in examples()])
    with pytest.raises(AssertionError):
        assert_same(our_scores_and_gradients(ScalarPolicy(model), [broken]), expected)


def test_scores_are_float32_also_where_the_backbone_computes_in_bfloat16() -> None:
    batch = assemble_packed(examples(), "messages")
    with torch.no_grad():
        scores = ScalarPolicy(small_reward_model("llama"), compute=torch.bfloat16).scalars(batch, batch.replies.end)
    assert scores.dtype == torch.float32
    assert not torch.equal(scores, scores.bfloat16().float())


def test_the_self_test_finds_the_layout_also_with_a_head_of_zeros() -> None:
    model = small_reward_model("gpt_neox")
    torch.nn.init.zeros_(head_of(model).weight)
    policy = ScalarPolicy(model)
    assert self_test_scalars(policy, VOCABULARY, longest=30).layout == "tree"
    with pytest.raises(RecipeError, match=r"model\.layout: leaky attention is wrong on cpu: \d"):
        self_test_scalars(policy.with_kernels(lambda layout, dtype: _Leaky()), VOCABULARY, longest=30)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("init", "layout"),
    [
        ({"architecture": "mistral", **SIZES["llama"], "sliding_window": 30}, "tree"),
        ({"architecture": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 4}, "tree"),
        ({"architecture": "bloom", "hidden_size": 32, "n_layer": 2, "n_head": 4}, "threads"),
    ],
)
def test_a_family_gets_the_layout_that_is_exact_for_it(init: dict[str, object], layout: str) -> None:
    verdict = self_test_scalars(ScalarPolicy(new_reward_model(init, 100, 0)), 100, longest=40)
    assert verdict.layout == layout
    assert math.isfinite(verdict.difference) or layout == "threads"


class _Leaky:
    name = "leaky attention"

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None, terms: object = None
    ) -> torch.Tensor:
        return torch.nn.functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=scaling, enable_gqa=True
        )
