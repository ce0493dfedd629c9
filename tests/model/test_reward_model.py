"""Reward models: made from causal models without losing a weight, loaded by stock transformers, or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from tests.model.trees import SIZES, VOCABULARY, small_model
from tests.text.small_tokenizers import byte_level, prefixed, write_tokenizer
from tunesmith.errors import DataError, RecipeError
from tunesmith.model.load import load_model, new_model
from tunesmith.model.reward_model import (
    draw_head,
    head_of,
    load_reward_model,
    new_reward_model,
    padding_id,
    set_padding,
    start_reward_model,
)
from tunesmith.model.vocabulary import resize_vocabulary
from tunesmith.text.formats.registry import build_format
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tree import Message, Tree

ARCHITECTURES = ("gpt_neox", "llama")


def saved(directory: Path, model: PreTrainedModel) -> str:
    model.save_pretrained(directory)
    return str(directory)


def started(path: str, **settings: Any) -> tuple[PreTrainedModel, bool]:
    """The model that training starts from, and whether its head is new."""
    opened, new = start_reward_model(path, **settings)
    return opened.model, new


@pytest.fixture(params=ARCHITECTURES)
def causal(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return saved(tmp_path / "causal", small_model(request.param))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_backbone_of_a_causal_model_is_kept_to_the_bit(tmp_path: Path, architecture: str, tied: bool) -> None:
    before = small_model(architecture, tied=tied)
    model, new = started(saved(tmp_path, before), seed=3)
    assert new
    backbone, kept = before.base_model.state_dict(), model.base_model.state_dict()
    assert backbone.keys() == kept.keys()
    assert all(torch.equal(backbone[name], kept[name]) for name in backbone)
    assert {name for name, _ in model.named_parameters()} - {
        f"{model.base_model_prefix}.{name}" for name in backbone
    } == {"score.weight"}


def test_the_head_is_a_function_of_its_seed_with_the_spread_that_was_asked_for(causal: str) -> None:
    torch.manual_seed(1)
    first, again, other = (head_of(started(causal, seed=seed)[0]).weight for seed in (7, 7, 8))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    wide = new_reward_model({"architecture": "llama", **SIZES["llama"], "hidden_size": 2048}, 9, 0)
    assert head_of(wide).weight.std().item() == pytest.approx(2049**-0.5, rel=0.1)
    draw_head(wide, 0.02, 5)
    assert head_of(wide).weight.std().item() == pytest.approx(0.02, rel=0.1)
    draw_head(wide, 0.0, 5)
    assert torch.count_nonzero(head_of(wide).weight) == 0


def test_a_reward_model_goes_on_with_its_own_head(causal: str, tmp_path: Path) -> None:
    first, _ = started(causal, seed=3)
    second, new = started(saved(tmp_path / "reward", first), seed=4)
    assert not new
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())


def test_stock_transformers_scores_a_padded_batch_as_we_score_its_rows_alone(causal: str, tmp_path: Path) -> None:
    model, _ = started(causal, seed=3)
    set_padding(model, 5)
    stock = AutoModelForSequenceClassification.from_pretrained(saved(tmp_path / "reward", model)).eval()
    rows = [torch.randint(6, VOCABULARY, (size,), generator=torch.Generator().manual_seed(size)) for size in (4, 9, 7)]
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=5)
    model.eval()
    with torch.no_grad():
        scores = stock(input_ids=padded, attention_mask=(padded != 5).long()).logits[:, 0]
        alone = [head_of(model)(model.base_model(input_ids=row[None]).last_hidden_state[0, -1])[0] for row in rows]
    assert torch.allclose(scores, torch.stack(alone), atol=1e-5)


def test_a_row_of_the_embedding_that_pads_is_trained_where_it_stands_in_a_text(causal: str, tmp_path: Path) -> None:
    """Stock transformers gives it no gradient."""
    model, _ = started(causal)
    set_padding(model, 5)
    again = load_reward_model(saved(tmp_path / "reward", model))
    again.base_model(input_ids=torch.tensor([[7, 5, 8]])).last_hidden_state[..., 0].sum().backward()
    assert torch.count_nonzero(again.get_input_embeddings().weight.grad[5]) > 0


@pytest.mark.parametrize("name", ["layers.0.mlp.", "norm.weight"])
def test_a_weight_that_is_not_in_the_files_is_never_filled_in(tmp_path: Path, name: str) -> None:
    directory = Path(saved(tmp_path, small_model("llama")))
    weights = load_file(directory / "model.safetensors")
    kept = {key: value for key, value in weights.items() if name not in key}
    save_file(kept, directory / "model.safetensors", metadata={"format": "pt"})
    for load in (start_reward_model, load_model):
        with pytest.raises(DataError, match=r"weights of the model are not in its files \(model\."):
            load(str(directory))


def test_weights_without_a_place_are_refused(tmp_path: Path) -> None:
    directory = Path(saved(tmp_path, small_model("llama")))
    weights = load_file(directory / "model.safetensors")
    save_file({**weights, "value_head.weight": torch.ones(3)}, directory / "model.safetensors", {"format": "pt"})
    with pytest.raises(DataError, match=r"does not have \(value_head\.weight\)"):
        start_reward_model(str(directory))


@pytest.mark.parametrize(
    ("init", "table"),
    [
        ({"architecture": "gpt_neox", **SIZES["gpt_neox"]}, "gpt_neox.layers.0.attention.masked_bias"),
        ({"architecture": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 4}, "transformer.h.0.attn.bias"),
        ({"architecture": "llama", **SIZES["llama"]}, "model.layers.0.self_attn.rotary_emb.inv_freq"),
    ],
    ids=lambda value: value if isinstance(value, str) else value["architecture"],
)
def test_tables_that_older_files_hold_are_no_weights(tmp_path: Path, init: dict[str, Any], table: str) -> None:
    directory = Path(saved(tmp_path, new_model(init, 50, 0)))
    weights = load_file(directory / "model.safetensors")
    save_file({**weights, table: torch.ones(3)}, directory / "model.safetensors", {"format": "pt"})
    assert started(str(directory))[1]


@pytest.mark.parametrize("tied", [False, True])
def test_a_reward_model_is_not_taken_for_one_that_writes(tmp_path: Path, tied: bool) -> None:
    """With a tied head nothing would be missing, and it would write nonsense."""
    model, _ = started(saved(tmp_path / "causal", small_model("llama", tied=tied)))
    with pytest.raises(DataError, match="is a reward model: it scores replies and cannot generate any"):
        load_model(saved(tmp_path / "reward", model))


def test_a_causal_model_is_not_taken_for_one_that_scores(causal: str) -> None:
    with pytest.raises(DataError, match=r"model without a head that scores; name a reward model"):
        load_reward_model(causal)


def test_a_classifier_of_two_classes_is_no_reward_model(tmp_path: Path) -> None:
    config = small_model("llama").config
    config.num_labels = 2
    stock = AutoModelForSequenceClassification.from_config(config)
    with pytest.raises(DataError, match="gives 2 numbers per text; a reward model gives one"):
        load_reward_model(saved(tmp_path, stock))


@pytest.mark.parametrize(
    ("init", "message"),
    [
        ({"architecture": "codegen"}, r"model\.init\.architecture: transformers has no reward model of 'codegen'"),
        ({"architecture": "bert", "hidden_size": 32, "num_attention_heads": 4}, "has no head that gives one number"),
        ({"architecture": "llama", "hidden_sise": 3}, "did you mean 'hidden_size'"),
    ],
)
def test_an_impossible_reward_model_says_why(init: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        new_reward_model(init, 10, 0)


@pytest.mark.parametrize(
    "init",
    [
        {"architecture": "mistral", **SIZES["llama"]},
        {"architecture": "qwen2", **SIZES["llama"]},
        {"architecture": "qwen3", **SIZES["llama"]},
        {"architecture": "gemma", **SIZES["llama"], "head_dim": 8},
        {"architecture": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 4},
        {"architecture": "phi3", **SIZES["llama"], "pad_token_id": 1},
        {"architecture": "bloom", "hidden_size": 32, "n_layer": 2, "n_head": 4},
    ],
    ids=lambda init: init["architecture"],
)
def test_families_that_transformers_has_reward_models_of(init: dict[str, Any], tmp_path: Path) -> None:
    model = new_reward_model(init, 100, 0)
    again = load_reward_model(saved(tmp_path, model))
    assert head_of(again).weight.shape == (1, 32)


def test_a_resized_reward_model_keeps_its_rows_and_comes_back(causal: str, tmp_path: Path) -> None:
    model, _ = started(causal)
    rows = model.get_input_embeddings().weight[:VOCABULARY].clone()
    assert resize_vocabulary(model, 230, 16, seed=5) == (VOCABULARY, 240)
    again = load_reward_model(saved(tmp_path / "reward", model))
    assert torch.equal(again.get_input_embeddings().weight[:VOCABULARY], rows)
    assert again.get_input_embeddings().weight.shape[0] == 240


END = "<|endoftext|>"
TOKENIZERS: dict[str, Callable[[Path], Path]] = {
    "one token for everything": lambda path: write_tokenizer(path, byte_level(), bos=END, eos=END, unk=END),
    "pads with its end": lambda path: write_tokenizer(path, byte_level(), eos=END, pad=END),
    "no padding": lambda path: write_tokenizer(path, prefixed(), bos="<s>", eos="</s>", unk="<unk>"),
    "pads with its unknown": lambda path: write_tokenizer(
        path, prefixed(), bos="<s>", eos="</s>", unk="<unk>", pad="<unk>"
    ),
}


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@pytest.mark.parametrize("format", ["oasst", "dolly", "tulu", "zephyr", "plain"])
def test_no_reply_ends_with_the_token_that_pads(tmp_path: Path, tokenizer: str, format: str) -> None:
    chosen = build_format(format)
    renderer = Renderer(chosen, Tokenizer.load(str(TOKENIZERS[tokenizer](tmp_path)), chosen.controls))
    token = padding_id(renderer)
    if token is None:
        assert renderer.tokenizer.control_ids <= {renderer.tokenizer.eos_id, *renderer.stop_ids, 0}
        return
    asked = [] if format == "plain" else [Message("user", "?")]
    for text in ("yes", END, "<unk>", "<s>", "naïve 你好"):
        assert renderer.render(Tree.path([*asked, Message("assistant", text)])).ids[-1] != token
