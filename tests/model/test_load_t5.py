"""Encoder-decoders are made, loaded and resized with the head that the weights have, tied or separate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, T5ForConditionalGeneration

from tests.model.padded import START, T5, V11, VOCABULARY, small_t5
from tunesmith.errors import DataError, RecipeError
from tunesmith.model.load import load_model, new_model, read_architecture
from tunesmith.model.seq2seq import Seq2SeqPolicy, output_scale
from tunesmith.model.vocabulary import resize_vocabulary
from tunesmith.verify.self_test_padded import self_test_padded

IDS = torch.arange(2, 20)[None]


@pytest.mark.parametrize("tied", [False, True])
def test_a_saved_model_comes_back_to_the_bit(tmp_path: Path, tied: bool) -> None:
    model = small_t5(tied=tied).eval()
    model.save_pretrained(tmp_path)
    again = load_model(str(tmp_path)).eval()
    assert read_architecture(str(tmp_path)) == "t5"
    assert (again.lm_head.weight is again.shared.weight) is tied
    assert output_scale(again) == (T5["d_model"] ** -0.5 if tied else 1.0)
    assert torch.equal(model(IDS, labels=IDS).logits, again(IDS, labels=IDS).logits)


@pytest.mark.parametrize("tied", [False, True])
def test_resizing_leaves_a_tied_head_tied_and_an_own_head_its_own(tied: bool) -> None:
    model = small_t5(tied=tied)
    embedding, head = model.shared.weight[:100].clone(), model.lm_head.weight[:100].clone()
    assert resize_vocabulary(model, 230, 16, seed=5) == (VOCABULARY, 240)
    assert model.lm_head.weight.shape[0] == model.shared.weight.shape[0] == 240
    assert (model.lm_head.weight is model.shared.weight) is tied
    assert torch.equal(model.shared.weight[:100], embedding)
    assert torch.equal(model.lm_head.weight[:100], head)
    assert model.encoder.embed_tokens.weight is model.decoder.embed_tokens.weight is model.shared.weight


def test_a_padded_vocabulary_stays() -> None:
    assert resize_vocabulary(small_t5(), 200, "none", seed=5) == (VOCABULARY, VOCABULARY)


def test_a_new_model_is_a_function_of_its_seed_and_learns_from_a_sane_loss() -> None:
    made = []
    for noise, seed in ((1, 3), (2, 3), (1, 4)):
        torch.manual_seed(noise)
        made.append(new_model({**T5, **V11}, VOCABULARY, seed))
    first, second, other = (model.state_dict() for model in made)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["lm_head.weight"], other["lm_head.weight"])
    uniform = torch.tensor(float(VOCABULARY)).log()
    assert made[0](IDS, labels=IDS).loss.item() == pytest.approx(float(uniform), abs=1.5)


def test_a_checkpoint_of_version_1_1_as_others_write_it_is_not_tied(tmp_path: Path) -> None:
    """Its configuration says only that embedding and head are not tied."""
    small_t5().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["scale_decoder_outputs"], config["decoder_start_token_id"]
    assert config["tie_word_embeddings"] is False
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = load_model(str(tmp_path))
    assert model.lm_head.weight is not model.shared.weight
    assert (output_scale(model), model.config.decoder_start_token_id) == (1.0, 0)
    stock = T5ForConditionalGeneration.from_pretrained(tmp_path).eval()
    starts = torch.tensor([[0, 4, 5]])
    expected = stock(input_ids=IDS, decoder_input_ids=starts).logits
    assert torch.equal(model.eval()(input_ids=IDS, decoder_input_ids=starts).logits, expected)


@pytest.mark.parametrize("tied", [False, True])
def test_mt5_gives_the_same_in_our_batches_and_in_stock_transformers(tmp_path: Path, tied: bool) -> None:
    model = new_model({**T5, "architecture": "mt5", "tie_word_embeddings": tied}, VOCABULARY, 0)
    assert self_test_padded(Seq2SeqPolicy(model), VOCABULARY, 30, 20, START) < 1e-4
    model.save_pretrained(tmp_path)
    stock = AutoModelForSeq2SeqLM.from_pretrained(tmp_path).eval()
    starts = torch.tensor([[0, 4, 5]])
    expected = stock(input_ids=IDS, decoder_input_ids=starts).logits
    assert torch.allclose(model.eval()(input_ids=IDS, decoder_input_ids=starts).logits, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"d_modle": 3}, r"model\.init\.d_modle: .* did you mean 'd_model'"),
        ({"feed_forward_proj": "gated-nothing-more"}, r"model\.init: "),
        ({"feed_forward_proj": "nothing"}, r"model\.init"),
    ],
)
def test_an_impossible_new_t5_names_its_key(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        new_model({**T5, **sizes}, 10, 0)


def test_pickled_weights_are_refused_unopened(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5"}))
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch harm'\ntR.")
    with pytest.raises(DataError, match="only pickled weights"):
        load_model(str(tmp_path))
