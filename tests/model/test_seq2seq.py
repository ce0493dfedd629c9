"""Padded == alone, shared == separate, split micro-batches == one: loss and every gradient, against the stock model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from transformers import PreTrainedModel

from tests.model.gradients import assert_same
from tests.model.padded import START, seq2seq_examples, seq2seq_tree, small_t5
from tests.model.test_equivalence import learned
from tunesmith.batch.example import Example
from tunesmith.batch.padded import PaddedBatch, assemble_padded, collate_padded, split_inputs_and_replies
from tunesmith.errors import RecipeError
from tunesmith.model.dropout import Seq2SeqDropout
from tunesmith.model.seq2seq import Seq2SeqPolicy
from tunesmith.verify.self_test_padded import self_test_padded


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def together(examples: Sequence[Example]) -> PaddedBatch:
    return assemble_padded(examples, "messages", start=START, padding=0)


def stock(model: PreTrainedModel, examples: Sequence[Example]) -> tuple[float, dict[str, torch.Tensor]]:
    """Every reply alone with its own input through the unmodified model, with labels that it shifts itself."""
    split = [split_inputs_and_replies(example) for example in examples]
    texts = [(each.inputs[reply.input], reply.ids) for each in split for reply in each.replies]
    model.zero_grad()
    model.train()
    units = sum(len(reply) for _, reply in texts)
    total = 0.0
    for ids, reply in texts:
        labels = torch.from_numpy(reply.astype("int64"))[None]
        loss = model(input_ids=torch.from_numpy(ids.astype("int64"))[None], labels=labels).loss * len(reply) / units
        loss.backward()
        total += loss.item()
    return total, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable:FutureWarning")
def test_replies_in_padded_rows_equal_each_alone_through_the_stock_model(tied: bool, checkpointing: bool) -> None:
    model = small_t5(tied=tied, checkpointing=checkpointing)
    examples = seq2seq_examples()
    assert_same(learned(Seq2SeqPolicy(model), [together(examples)]), stock(model, examples))


@pytest.mark.parametrize("tokens", [1, 40, 100, 100_000])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_any_split_into_micro_batches_gives_the_same_update_also_with_dropout(dropout: float, tokens: int) -> None:
    model = small_t5()
    noise = Seq2SeqDropout((model.encoder, model.decoder), dropout, "rising") if dropout else None
    policy = Seq2SeqPolicy(model, dropout=noise)
    examples = seq2seq_examples()
    whole = learned(policy, [together(examples)])
    cut = list(collate_padded(examples, "messages", tokens, start=START, padding=0))
    assert len(cut) > 1 or tokens > 10_000
    assert_same(learned(policy, cut), whole)


def test_replies_that_share_an_input_equal_replies_with_rows_of_their_own() -> None:
    policy = Seq2SeqPolicy(small_t5())
    shared = [Example(0, seq2seq_tree(3, (4, 9, 2), 11))]
    split = split_inputs_and_replies(shared[0])
    assert (len(split.inputs), len(split.replies)) == (1, 3)
    batch = together(shared)
    rows = replace(
        batch,
        input_ids=batch.input_ids.repeat(3, 1),
        attention_mask=batch.attention_mask.repeat(3, 1),
        input_of=torch.arange(3),
        input_sizes=batch.input_sizes * 3,
    )
    assert_same(learned(policy, [batch]), learned(policy, [rows]))


@pytest.mark.parametrize("tied", [False, True])
def test_losses_that_need_all_logits_have_those_of_the_stock_model(tied: bool) -> None:
    model, example = small_t5(tied=tied), Example(0, seq2seq_tree(3, (9,), 11))

    def flat(logsumexp: torch.Tensor, part: slice, vocabulary: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return logsumexp * 0, logsumexp * 0, logsumexp * 0

    found = Seq2SeqPolicy(model).log_probabilities(together([example]), statistics_gradient=flat).statistics
    assert found is not None
    ids = torch.from_numpy(example.tree.ids.astype("int64"))[None]
    logits = model(input_ids=ids[:, :11], labels=ids[:, 11:]).logits[0]
    assert torch.allclose(found.logsumexp, torch.logsumexp(logits, dim=-1), atol=1e-4)
    assert torch.allclose(found.total, logits.sum(-1), atol=1e-3)


def test_dropout_is_noise_in_training_only_and_the_same_for_the_same_seeds() -> None:
    model = small_t5()
    policy = Seq2SeqPolicy(model, dropout=Seq2SeqDropout((model.encoder, model.decoder), 0.4, "uniform"))
    batch = together(seq2seq_examples())
    silent = Seq2SeqPolicy(small_t5())
    policy.train()
    first, again = (policy.log_probabilities(batch).log_probability for _ in range(2))
    other = policy.log_probabilities(replace(batch, seeds=tuple(seed + 9 for seed in batch.seeds))).log_probability
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    policy.eval()
    assert torch.equal(policy.log_probabilities(batch).log_probability, silent.log_probabilities(batch).log_probability)
    assert not torch.allclose(first, silent.log_probabilities(batch).log_probability)


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable:FutureWarning")
def test_computing_activations_twice_meets_the_same_noise() -> None:
    found = []
    for checkpointing in (False, True):
        model = small_t5(checkpointing=checkpointing)
        policy = Seq2SeqPolicy(model, dropout=Seq2SeqDropout((model.encoder, model.decoder), 0.3, "uniform"))
        found.append(learned(policy, [together(seq2seq_examples())]))
    assert_same(found[1], found[0])


def test_three_replies_to_one_input_have_noise_of_their_own() -> None:
    model = small_t5()
    policy = Seq2SeqPolicy(model, dropout=Seq2SeqDropout((model.encoder, model.decoder), 0.4, "uniform"))
    tree = seq2seq_tree(3, (4, 4), 11)
    tree.ids[15:] = tree.ids[11:15]  # the same reply twice
    policy.train()
    found = policy.log_probabilities(together([Example(0, tree, seed=5)])).log_probability
    assert not torch.allclose(found[:4], found[4:])


def test_the_models_own_dropout_is_off() -> None:
    model = small_t5()
    model.train()
    ids = torch.arange(2, 20)[None]
    assert torch.equal(model(input_ids=ids, labels=ids).logits, model(input_ids=ids, labels=ids).logits)


FAULTS = {
    "padding is read": lambda batch: replace(batch, attention_mask=torch.ones_like(batch.attention_mask)),
    "replies are not shifted": lambda batch: replace(batch, decoder_input_ids=batch.decoder_input_ids.roll(-1, 1)),
    "another start token": lambda batch: replace(
        batch, decoder_input_ids=torch.where(batch.decoder_input_ids == START, 9, batch.decoder_input_ids)
    ),
    "inputs are mixed up": lambda batch: replace(batch, input_of=batch.input_of.flip(0)),
    "sources are shifted": lambda batch: replace(batch, source=(batch.source - 1).clamp_min(0)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_in_the_batch_breaks_the_equality(fault: str) -> None:
    model, examples = small_t5(), seq2seq_examples()
    broken = FAULTS[fault](together(examples))
    if fault == "padding is read":  # said without padding, the mask is not looked at
        broken = replace(broken, input_sizes=(1, *broken.input_sizes[1:]))
    with pytest.raises(AssertionError):
        assert_same(learned(Seq2SeqPolicy(model), [broken]), stock(model, examples))


@pytest.mark.parametrize("tied", [False, True])
def test_the_self_test_passes_and_sees_a_wrong_scale(tied: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_t5(tied=tied)
    assert self_test_padded(Seq2SeqPolicy(model), 211, 40, 20, START) < 1e-4
    monkeypatch.setattr("tunesmith.model.seq2seq.output_scale", lambda model: 0.5)
    with pytest.raises(RecipeError, match="T5ForConditionalGeneration does not give the same"):
        self_test_padded(Seq2SeqPolicy(model), 211, 40, 20, START)
