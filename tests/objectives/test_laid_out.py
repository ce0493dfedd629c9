"""Objectives of replies on packed batches: whatever a tree is packed with, its replies have the same numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tunesmith.batch.example import Example
from tunesmith.batch.packed import PackedBatch, assemble_packed
from tunesmith.batch.protocols import LogProbabilities, Loss
from tunesmith.objectives.preference import PreferenceOptimization
from tunesmith.objectives.proximal import ProximalPolicy
from tunesmith.objectives.ranking import RewardRanking
from tunesmith.text.tokens.token_tree import TokenTree

OBJECTIVES = [
    PreferenceOptimization(),
    PreferenceOptimization(length_normalized=True, margin_scale=0.5, sft_weight=0.3, policy_weighted=True),
    RewardRanking(l2=0.01, margin_scale=0.2),
    ProximalPolicy(),
]


def numbers_of(ids: Tensor, factor: int) -> Tensor:
    """Some number for every token, from its id alone."""
    return -((ids * factor + 3) % 17).float() / 10


class OfIds:
    """A policy whose log-probabilities, values and scores depend on the token id only.

    Its log-probabilities can be differentiated with respect to those of all ids.
    """

    def __init__(self) -> None:
        self.table = numbers_of(torch.arange(1000), 7).requires_grad_()

    def log_probabilities(self, batch: PackedBatch, *_: Any, **__: Any) -> LogProbabilities:
        return LogProbabilities(self.table[batch.target], torch.ones_like(batch.target, dtype=torch.bool))

    def actor_critic(self, batch: PackedBatch, **_: Any) -> tuple[LogProbabilities, Tensor]:
        return self.log_probabilities(batch), numbers_of(batch.target, 5)

    def scalars(self, batch: PackedBatch, where: Tensor) -> Tensor:
        return self.table[batch.ids[where]]


def ranked_tree(draw: np.random.Generator) -> TokenTree:
    """A question with ranked replies; below one of them another question with two more."""
    sizes, parents, ranks = [4], [-1], [-1]
    for rank in draw.permutation(int(draw.integers(2, 5))).tolist():
        sizes.append(int(draw.integers(1, 5)))
        parents.append(0)
        ranks.append(int(rank) // 2 if draw.random() < 0.3 and rank else int(rank))
    if draw.random() < 0.5:
        parents += [len(sizes) - 1, len(sizes), len(sizes)]
        sizes += [3, 2, 4]
        ranks += [-1, 1, 0]
    ends = np.cumsum(sizes)
    replies = [number for number, rank in enumerate(ranks) if rank >= 0]
    table = [[number, parents[number], ranks[number]] for number in replies]
    spans = [[ends[n] - sizes[n], ends[n], ends[parents[n]] - 1, n, 1] for n in replies]
    return TokenTree(
        ids=draw.integers(0, 1000, int(ends[-1])).astype(np.int32),
        segments=np.stack([ends - sizes, ends, np.array(parents)], 1).astype(np.int32),
        spans=np.array(spans, np.int32),
        threads=sum(number not in parents for number in range(len(sizes))),
        replies=np.array(table, np.int32),
        scores=draw.normal(size=len(replies)).astype(np.float32),
    )


def examples(objective: Any, seed: int = 1) -> list[Example]:
    draw = np.random.default_rng(seed)
    found = []
    for number in range(6):
        tree = ranked_tree(draw)
        targets = len(tree.targets())
        size = len(tree.replies)
        names: tuple[str, ...] = ("reference",)
        if isinstance(objective, ProximalPolicy):
            size, names = targets, ("old_log_probability", "old_value", "advantage", "return", "reference")
        columns = {name: draw.normal(size=size).astype(np.float32) for name in names}
        found.append(Example(number, tree, columns=columns))
    return found


def run(objective: Any, parts: Sequence[Sequence[Example]]) -> tuple[list[Loss], Tensor, float]:
    policy = OfIds()
    batches = [assemble_packed(part, "messages") for part in parts]
    units = sum(objective.units(batch) for batch in batches)
    found = [objective(policy, batch, units) for batch in batches]
    for loss in found:
        loss.loss.backward()
    assert policy.table.grad is not None
    return found, policy.table.grad, units


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda each: type(each).__name__)
def test_loss_gradient_and_measures_do_not_depend_on_what_a_tree_is_laid_out_with(objective: Any) -> None:
    trees = examples(objective)
    (whole,), gradient, units = run(objective, [trees])
    assert units > 3
    for split in ([trees[::-1]], [trees[:1], trees[1:4], trees[4:]], [[tree] for tree in trees]):
        found, again, same = run(objective, split)
        assert same == units
        torch.testing.assert_close(again, gradient, rtol=1e-5, atol=1e-7)
        for name in objective.metrics:
            assert sum(float(loss.sums[name]) for loss in found) == pytest.approx(float(whole.sums[name]), rel=1e-9)


def test_pairs_of_laid_out_trees_are_those_of_each_tree_by_itself() -> None:
    objective, policy = PreferenceOptimization(reference_free=True, beta=1.0), OfIds()
    expected = []
    trees = examples(objective)
    for example in trees:
        tree = example.tree
        sums = {}
        for start, end, _, message, _ in tree.spans.tolist():
            sums[message] = float(policy.table.detach()[torch.from_numpy(tree.ids[start:end]).long()].sum())
        rows = tree.replies.tolist()
        expected += [sums[a] - sums[b] for a, of, rank in rows for b, to, other in rows if of == to and rank < other]
    (found,), _, units = run(objective, [trees])
    assert units == len(expected)
    assert float(found.sums["rewards/margins"]) == pytest.approx(sum(expected), rel=1e-6)
    assert float(found.sums["rewards/accuracies"]) == sum(value > 0 for value in expected)


def test_the_score_of_a_reply_is_read_at_its_last_token() -> None:
    objective, policy = RewardRanking(), OfIds()
    trees = examples(objective)
    margins = []
    for example in trees:
        tree = example.tree
        scores = {
            message: float(policy.table.detach()[tree.ids[end - 1]]) for _, end, _, message, _ in tree.spans.tolist()
        }
        rows = tree.replies.tolist()
        for group in {group for _, group, _ in rows}:
            own = [(rank, scores[message]) for message, of, rank in rows if of == group]
            pairs = [one - other for rank, one in own for below, other in own if rank < below]
            margins += [sum(pairs) / len(pairs)] if pairs else []
    (found,), _, units = run(objective, [trees])
    assert units == len(margins)
    assert float(found.sums["margin"]) == pytest.approx(sum(margins), rel=1e-5)
