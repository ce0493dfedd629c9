"""Reward models on trees of rankings == separate sequences through the stock classification model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from tests.model.gradients import Found, assert_same, gradients, loss_and_gradients
from tests.model.rankings import Dialogue, changed_replies, dialogues
from tests.model.test_scalar_policy import small_reward_model
from tunesmith.batch.example import Example
from tunesmith.batch.packed import PackedBatch
from tunesmith.compose.models.families import PACKED
from tunesmith.model.scalar_policy import ScalarPolicy
from tunesmith.objectives.ranking import RewardRanking

ARCHITECTURES = ("gpt_neox", "llama")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def by_hand(listed: Sequence[Dialogue], model: PreTrainedModel, *, margin_scale: float, l2: float) -> Found:
    """A mean over groups of the mean over their pairs, every reply alone."""
    model.zero_grad()
    groups = []
    for each in listed:
        for group in each.groups():
            scored = {number: model(input_ids=each.sequence(number)[0][None]).logits[0, 0] for number in group}
            losses = []
            for better in group:
                for worse in group:
                    if each.ranks[better] < each.ranks[worse]:
                        margin = margin_scale * (each.scores[better] - each.scores[worse])
                        chance = torch.sigmoid(scored[better] - scored[worse] - margin)
                        losses.append(-chance.log() + l2 / 2 * (scored[better] ** 2 + scored[worse] ** 2))
            groups.append(torch.stack(losses).mean())
    loss = torch.stack(groups).mean()
    loss.backward()
    return loss.item(), gradients(model)


def ours(policy: ScalarPolicy, batches: Sequence[PackedBatch], **settings: float) -> Found:
    return loss_and_gradients(policy, RewardRanking(**settings), batches)


def batches(listed: Sequence[Dialogue], tokens: int = 10**6) -> list[PackedBatch]:
    examples = [Example(number, each.tree(), seed=number + 1) for number, each in enumerate(listed)]
    return list(PACKED.collate(examples, "messages", tokens))  # type: ignore[arg-type]


def stock(model: PreTrainedModel, directory: Path) -> PreTrainedModel:
    """The same weights as transformers itself loads them, with its own attention."""
    model.save_pretrained(directory)
    return AutoModelForSequenceClassification.from_pretrained(directory, num_labels=1)


@pytest.mark.parametrize("settings", [{}, {"l2": 0.05}, {"margin_scale": 0.3}], ids=["plain", "l2", "margins"])
@pytest.mark.parametrize("layout", ["tree", "threads"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_trees_equal_separate_sequences_through_the_stock_model(
    architecture: str, layout: str, settings: dict[str, float], tmp_path: Path
) -> None:
    model, listed = small_reward_model(architecture), dialogues(7)
    settings = {"l2": 0.0, "margin_scale": 0.0, **settings}
    expected = by_hand(listed, stock(model, tmp_path), **settings)
    policy = ScalarPolicy(model, layout=layout)
    assert_same(ours(policy, batches(listed), **settings), expected)
    cut = batches(listed, 60)
    assert len(cut) > 2
    assert_same(ours(policy, cut, **settings), expected)


@pytest.mark.parametrize("fault", ["scored one early", "sides exchanged", "siblings see each other"])
def test_a_planted_fault_breaks_the_equality(fault: str, tmp_path: Path) -> None:
    model, listed = small_reward_model("llama"), dialogues()
    (batch,) = batches(listed)
    replies, layout = batch.replies, batch.layout
    everything = tuple(tuple(range(index)) for index in range(len(layout.sizes)))
    broken = {
        "scored one early": replace(batch, replies=replace(replies, end=replies.end - 1)),
        "sides exchanged": replace(batch, replies=changed_replies(replies, rank=9 - replies.rank)),
        "siblings see each other": replace(batch, layout=replace(layout, ancestors=everything)),
    }[fault]
    expected = by_hand(listed, stock(model, tmp_path), margin_scale=0.0, l2=0.0)
    with pytest.raises(AssertionError):
        assert_same(ours(ScalarPolicy(model), [broken]), expected)
