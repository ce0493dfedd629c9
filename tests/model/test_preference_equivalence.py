"""Preferences on trees == the same loss written down by hand on separate sequences through the stock model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from tests.model.gradients import Found, assert_same, loss_and_gradients
from tests.model.padded import START, small_t5
from tests.model.rankings import FIVE, PAIR, SHAPES, SWAPPED, TWO_DEPTHS, Dialogue, dialogue, dialogues
from tests.model.trees import small_model
from tunesmith.batch.columns import REFERENCE
from tunesmith.batch.example import Example
from tunesmith.compose.models.families import PACKED, BatchKind, padded
from tunesmith.compose.models.reference_cache import ReferenceModel
from tunesmith.model import head
from tunesmith.model.dropout import ResidualDropout
from tunesmith.model.policy import Policy
from tunesmith.model.seq2seq import Seq2SeqPolicy
from tunesmith.objectives.preference import PreferenceOptimization

ARCHITECTURES = ("gpt_neox", "llama", "t5")
SETTINGS: dict[str, dict[str, Any]] = {
    "dpo": {},
    "conservative": {"label_smoothing": 0.2, "beta": 0.3},
    "ipo": {"loss": "ipo", "beta": 0.2},
    "hinge": {"loss": "hinge", "beta": 0.05},
    "normalized": {"length_normalized": True, "beta": 2.0},
    "simpo": {"length_normalized": True, "beta": 2.0, "target_margin": 0.6, "reference_free": True},
    "wpo": {"policy_weighted": True},
    "sft": {"sft_weight": 0.7},
    "margins": {"margin_scale": 0.3},
}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def made(architecture: str, seed: int = 0, *, checkpointing: bool = False) -> PreTrainedModel:
    if architecture == "t5":
        return small_t5(seed=seed, checkpointing=checkpointing)
    return small_model(architecture, seed=seed, checkpointing=checkpointing)


def read_by(model: PreTrainedModel) -> tuple[Any, BatchKind]:
    """The policy of a model, and the batches that it reads."""
    if model.config.is_encoder_decoder:
        return Seq2SeqPolicy(model), padded(START, START)
    return Policy(model), PACKED


def for_family(architecture: str, listed: Sequence[Dialogue]) -> list[Dialogue]:
    """An encoder-decoder has single turns only."""
    return [each for each in listed if architecture != "t5" or set(each.parents) == {-1, 0}]


# By hand: full logits of the stock model, one sequence at a time


def token_log_probabilities(model: PreTrainedModel, one: Dialogue, message: int) -> Tensor:
    ids, begin = one.sequence(message)
    if model.config.is_encoder_decoder:
        reply = ids[begin:]
        logits = model(input_ids=ids[None, :begin], labels=reply[None]).logits[0]
        return torch.log_softmax(logits, dim=-1)[torch.arange(len(reply)), reply]
    logits = model(input_ids=ids[None], use_cache=False).logits[0]
    before = torch.arange(begin - 1, len(ids) - 1)
    return torch.log_softmax(logits, dim=-1)[before, ids[begin:]]


@dataclass
class ByHand:
    """DPO and its relatives, pair by pair."""

    loss: str = "sigmoid"
    beta: float = 0.1
    label_smoothing: float = 0.0
    length_normalized: bool = False
    target_margin: float = 0.0
    margin_scale: float = 0.0
    policy_weighted: bool = False
    sft_weight: float = 0.0
    reference_free: bool = False

    def of(self, listed: Sequence[Dialogue], policy: PreTrainedModel, reference: PreTrainedModel) -> Tensor:
        losses = [
            self._pair(each, group, better, worse, policy, reference)
            for each in listed
            for group in each.groups()
            for better in group
            for worse in group
            if each.ranks[better] < each.ranks[worse]
        ]
        return torch.stack(losses).mean()

    def _pair(
        self,
        one: Dialogue,
        group: list[int],
        better: int,
        worse: int,
        policy: PreTrainedModel,
        reference: PreTrainedModel,
    ) -> Tensor:
        chosen, rejected = (token_log_probabilities(policy, one, side) for side in (better, worse))
        reduced = torch.mean if self.length_normalized else torch.sum
        difference = reduced(chosen) - reduced(rejected)
        if not self.reference_free:
            with torch.no_grad():
                before = [reduced(token_log_probabilities(reference, one, side)) for side in (better, worse)]
            difference = difference - (before[0] - before[1])
        logit = self.beta * difference - self.target_margin
        logit = logit - self.margin_scale * (one.scores[better] - one.scores[worse]) if self.margin_scale else logit
        found = self._of_logit(logit)
        if self.policy_weighted:
            found = found * min(1.0, float((chosen.mean() + rejected.mean()).detach().exp()))
        if self.sft_weight:
            lowest = min(one.ranks[number] for number in group)
            best = [number for number in group if one.ranks[number] == lowest]
            means = torch.stack([token_log_probabilities(policy, one, number).mean() for number in best])
            found = found - self.sft_weight * means.mean()
        return found

    def _of_logit(self, logit: Tensor) -> Tensor:
        if self.loss == "ipo":
            return (logit / self.beta - 1 / (2 * self.beta)) ** 2
        if self.loss == "hinge":
            return (1 - logit).clamp(min=0)
        chance = torch.sigmoid(logit)
        return -(1 - self.label_smoothing) * chance.log() - self.label_smoothing * (1 - chance).log()


def by_hand(
    settings: dict[str, Any], listed: Sequence[Dialogue], policy: PreTrainedModel, reference: PreTrainedModel
) -> Found:
    policy.zero_grad()
    policy.train()
    loss = ByHand(**settings).of(listed, policy, reference)
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in policy.named_parameters() if p.grad is not None}


# Ours


def examples_of(listed: Sequence[Dialogue], reference: PreTrainedModel) -> list[Example]:
    """The trees with their column, which the pass over the reference computes."""
    plain = [Example(number, each.tree(), seed=number + 1) for number, each in enumerate(listed)]
    policy, batches = read_by(reference)
    values = ReferenceModel(policy, batches.collate, 60, {}).values(plain)
    found, start = [], 0
    for each in plain:
        end = start + len(each.tree.replies)
        found.append(replace(each, columns={REFERENCE: values[start:end]}))
        start = end
    return found


def ours(policy: Any, batches: Sequence[Any], settings: dict[str, Any]) -> Found:
    return loss_and_gradients(policy, PreferenceOptimization(**settings), batches)


def one_batch(batches: BatchKind, examples: Sequence[Example]) -> Any:
    (batch,) = batches.collate(examples, "messages", 10**6)
    return batch


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_trees_in_one_batch_equal_separate_sequences_through_the_stock_model(architecture: str, setting: str) -> None:
    model, reference = made(architecture), made(architecture, seed=1)
    listed = for_family(architecture, dialogues(7))
    policy, batches = read_by(model)
    found = ours(policy, [one_batch(batches, examples_of(listed, reference))], SETTINGS[setting])
    assert_same(found, by_hand(SETTINGS[setting], listed, model, reference))


@pytest.mark.parametrize("rows", [1, 7, 30])
@pytest.mark.parametrize("setting", SETTINGS)
def test_a_head_that_sweeps_in_small_chunks_changes_nothing(
    setting: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replies and groups end within chunks, and reach over several."""
    monkeypatch.setattr(head, "_chunk_rows", lambda vocabulary: rows)
    model, reference, listed = made("llama"), made("llama", seed=1), dialogues(5)
    found = ours(Policy(model), [one_batch(PACKED, examples_of(listed, reference))], SETTINGS[setting])
    assert_same(found, by_hand(SETTINGS[setting], listed, model, reference))


@pytest.mark.parametrize("shape", [PAIR, SWAPPED, FIVE, TWO_DEPTHS], ids=["pair", "swapped", "five", "two depths"])
def test_every_shape_alone_equals_its_separate_sequences(shape: Any) -> None:
    model, reference = made("llama"), made("llama", seed=1)
    listed = [dialogue(11, shape)]
    found = ours(Policy(model), [one_batch(PACKED, examples_of(listed, reference))], {"beta": 0.5})
    assert_same(found, by_hand({"beta": 0.5}, listed, model, reference))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable:FutureWarning")
def test_activations_that_are_computed_twice_change_nothing(architecture: str) -> None:
    model, reference = made(architecture, checkpointing=True), made(architecture, seed=1)
    listed = for_family(architecture, dialogues(4))
    policy, batches = read_by(model)
    found = ours(policy, [one_batch(batches, examples_of(listed, reference))], {})
    assert_same(found, by_hand({}, listed, made(architecture), reference))


@pytest.mark.parametrize("setting", ["dpo", "wpo", "sft", "simpo"])
def test_reading_thread_by_thread_equals_reading_the_tree(setting: str) -> None:
    policy = Policy(made("llama"))
    batches = [one_batch(PACKED, examples_of(dialogues(), made("llama", seed=1)))]
    assert batches[0].layout.branches
    expected = ours(policy, batches, SETTINGS[setting])
    assert_same(ours(policy.with_layout("threads"), batches, SETTINGS[setting]), expected)


@pytest.mark.parametrize("tokens", [1, 60, 130])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("architecture", ["gpt_neox", "llama"])
def test_any_split_into_micro_batches_gives_the_same_update_also_with_dropout(
    architecture: str, dropout: float, tokens: int
) -> None:
    model = made(architecture)
    policy = Policy(model, dropout=ResidualDropout(model, dropout, "rising") if dropout else None)
    examples = examples_of(dialogues(), made(architecture, seed=1))
    cut = list(PACKED.collate(examples, "messages", tokens))
    assert len(cut) > 1
    assert_same(ours(policy, cut, {}), ours(policy, [one_batch(PACKED, examples)], {}))


@pytest.mark.parametrize("tokens", [1, 40, 80])
def test_any_split_gives_the_same_update_where_batches_put_examples_into_another_order(tokens: int) -> None:
    policy, batches = read_by(made("t5"))
    listed = [dialogue(number, SHAPES[number % 3], size=3 + 3 * (number % 4)) for number in range(8)]
    examples = examples_of(listed, made("t5", seed=1))
    cut = list(batches.collate(examples, "messages", tokens))
    assert [number for batch in cut for number in batch.examples] != list(range(8))
    assert_same(ours(policy, cut, {}), ours(policy, [one_batch(batches, examples)], {}))


@pytest.mark.parametrize("tokens", [1, 60, 10_000])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_references_stand_in_the_order_of_the_replies_whatever_the_batches_do(architecture: str, tokens: int) -> None:
    model = made(architecture)
    listed = [dialogue(number, SHAPES[number % 3], size=3 + 5 * (number % 4)) for number in range(8)]
    policy, batches = read_by(model)
    examples = [Example(number, each.tree()) for number, each in enumerate(listed)]
    found = torch.from_numpy(ReferenceModel(policy, batches.collate, tokens, {}).values(examples))
    with torch.no_grad():
        expected = [
            token_log_probabilities(model, each, number).sum()
            for each in listed
            for number, rank in enumerate(each.ranks)
            if rank is not None
        ]
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_policy_that_is_its_own_reference_begins_at_the_loss_without_a_margin(architecture: str) -> None:
    policy, batches = read_by(made(architecture))
    batch = one_batch(batches, examples_of(for_family(architecture, dialogues()), policy.model))
    for setting in ("dpo", "conservative", "ipo", "hinge", "normalized"):
        objective = PreferenceOptimization(**SETTINGS[setting])
        loss, gradients = ours(policy, [batch], SETTINGS[setting])
        assert loss == pytest.approx(objective.initial_loss, rel=1e-4)  # rounding of a margin, 5 times larger for ipo
        assert any(gradient.norm() > 1e-4 for gradient in gradients.values())
