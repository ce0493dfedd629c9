"""Loading, resizing and refusing models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BartConfig, BartForConditionalGeneration, Gemma3Config, Gemma3ForConditionalGeneration

from tests.campaigns.family_models import tiny_model
from tests.model.trees import SIZES, VOCABULARY, small_model
from tunesmith.errors import DataError, MissingInputError, RecipeError
from tunesmith.generate.cache_check import choose_decoding
from tunesmith.model.context import context_length
from tunesmith.model.load import load_model, new_model, read_local_architecture
from tunesmith.model.policy import Policy
from tunesmith.model.vocabulary import resize_vocabulary, rows_needed, rows_of
from tunesmith.verify.self_test import self_test


@pytest.mark.parametrize(
    ("tokens", "present", "resize", "rows"),
    [
        (50280, 50432, "exact", 50280),
        (50282, 50688, 16, 50288),
        (50277, 50304, "none", 50304),
        (10, 8, "exact", 10),
        (50277, 50304, "grow", 50304),
        (514, 512, "grow", 528),
    ],
)
def test_rows_follow_the_policy_and_may_shrink(tokens: int, present: int, resize: Any, rows: int) -> None:
    assert rows_needed(tokens, present, resize) == rows


def test_more_tokens_than_rows_is_refused_with_the_key_that_corrects_it() -> None:
    with pytest.raises(RecipeError, match=r"model\.resize: the tokenizer needs 9 embedding rows, the model has 8"):
        rows_needed(9, 8, "none")


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("architecture", ["gpt_neox", "llama"])
def test_resizing_keeps_old_rows_and_draws_new_ones_from_the_seed_alone(architecture: str, tied: bool) -> None:
    before = small_model(architecture, tied=tied).get_input_embeddings().weight[:100].clone()
    models = [small_model(architecture, tied=tied) for _ in range(2)]
    for noise, model in enumerate(models):
        torch.manual_seed(noise)
        assert resize_vocabulary(model, 230, 16, seed=5) == (VOCABULARY, 240)
    first, second = (model.get_input_embeddings().weight for model in models)
    assert torch.equal(first, second)
    assert torch.equal(first[:100], before)
    assert models[0].get_output_embeddings().weight.shape[0] == 240
    assert resize_vocabulary(models[0], 100, "exact", seed=5) == (240, 100)


def test_a_new_model_is_a_function_of_its_seed() -> None:
    sizes = {"architecture": "llama", **SIZES["llama"]}
    torch.manual_seed(1)
    first = new_model(sizes, 50, 3).state_dict()
    torch.manual_seed(2)
    second, other = new_model(sizes, 50, 3).state_dict(), new_model(sizes, 50, 4).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize(
    ("init", "message"),
    [
        ({"architecture": "gpt_nex"}, r"model\.init\.architecture: 'gpt_nex' .* did you mean 'gpt_neox'"),
        ({"architecture": "llama", "hidden_sise": 3}, r"model\.init\.hidden_sise: .* did you mean 'hidden_size'"),
        ({"architecture": "longt5"}, r"model\.init\.architecture: 'longt5' is neither a causal architecture"),
        ({"architecture": "llama", "hidden_size": 10, "num_attention_heads": 3}, r"model\.init: "),
    ],
)
def test_an_impossible_new_model_names_its_key(init: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        new_model(init, 10, 0)


def test_published_names_of_rotary_settings_are_read() -> None:
    model = new_model({"architecture": "gpt_neox", **SIZES["gpt_neox"], "rotary_pct": 0.5}, 10, 0)
    assert model.config.rope_parameters["partial_rotary_factor"] == 0.5


def test_a_directory_with_pickled_weights_only_is_refused_unopened(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch harm'\ntR.")
    with pytest.raises(DataError, match=r"only pickled weights \(pytorch_model\.bin\).*convert them to safetensors"):
        load_model(str(tmp_path))


def test_directories_that_are_no_models_say_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no such model directory"):
        load_model(str(tmp_path / "nothing"))
    with pytest.raises(MissingInputError, match=r"no config\.json"):
        read_local_architecture(tmp_path)
    (tmp_path / "run" / "export").mkdir(parents=True)
    (tmp_path / "run" / "export" / "config.json").write_text("{}")
    with pytest.raises(MissingInputError, match=r"this is a run; name its export, .*run/export"):
        read_local_architecture(tmp_path / "run")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(DataError, match=r"config\.json: not valid JSON"):
        read_local_architecture(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "of my own", "auto_map": {"AutoConfig": "code.Own"}}')
    with pytest.raises(DataError, match="code in a model directory is never run"):
        read_local_architecture(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(MissingInputError, match="no \\*\\.safetensors"):
        read_local_architecture(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "garbage"])
def test_broken_weights_are_one_clear_error(tmp_path: Path, damage: str) -> None:
    small_model("llama").save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2] if damage == "cut" else b"\xff" * 100)
    with pytest.raises((DataError, MissingInputError), match="cannot load the model"):
        load_model(str(tmp_path))


@pytest.mark.parametrize("architecture", ["gpt_neox", "llama"])
@pytest.mark.parametrize("tied", [False, True])
def test_a_saved_model_comes_back_to_the_bit(tmp_path: Path, architecture: str, tied: bool) -> None:
    model = small_model(architecture, tied=tied)
    model.save_pretrained(tmp_path)
    again = load_model(str(tmp_path))
    ids = torch.arange(20)[None]
    assert torch.equal(model.eval()(input_ids=ids).logits, again.eval()(input_ids=ids).logits)


@pytest.mark.parametrize("architecture", ["gpt_neox", "llama"])
def test_a_models_own_dropout_is_switched_off(architecture: str) -> None:
    model = new_model({"architecture": architecture, **SIZES[architecture], "attention_dropout": 0.5}, 50, 0)
    model.train()
    ids = torch.arange(20)[None]
    assert torch.equal(model(input_ids=ids).logits, model(input_ids=ids).logits)


@pytest.mark.parametrize(
    "init",
    [
        {"architecture": "bloom", "hidden_size": 32, "n_layer": 2, "n_head": 4},
        {"architecture": "gptj", "n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4},
        {
            "architecture": "gpt_neo",
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global"], 2]],
        },
        {"architecture": "falcon", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4},
        {"architecture": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 4},
        {"architecture": "llama", **SIZES["llama"]},
    ],
    ids=lambda init: init["architecture"],
)
@pytest.mark.filterwarnings("ignore")
def test_no_family_looks_ahead(init: dict[str, Any]) -> None:
    """Families without an attention interface are given no mask by one that is named to them."""
    model = new_model(init, 50, 0).eval()
    ids = torch.arange(20)[None]
    with torch.no_grad():
        whole, beginning = model(input_ids=ids).logits[0, :9], model(input_ids=ids[:, :9]).logits[0]
    assert torch.allclose(whole, beginning, atol=1e-5)


def test_weights_that_the_model_has_no_place_for_are_an_error_and_constants_are_not(tmp_path: Path) -> None:
    small_model("llama").save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file(
        {**weights, "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}, tmp_path / "model.safetensors"
    )
    load_model(str(tmp_path))
    save_file({**weights, "v_head.summary.weight": torch.ones(1, 32)}, tmp_path / "model.safetensors")
    with pytest.raises(DataError, match=r"1 weights that the model does not have \(v_head\.summary\.weight\)"):
        load_model(str(tmp_path))


def test_a_configuration_that_asks_for_further_losses_is_refused(tmp_path: Path) -> None:
    sizes = {**SIZES["llama"], "num_local_experts": 4, "output_router_logits": True}
    with pytest.raises(RecipeError, match=r"model\.init: output_router_logits asks for a loss that balances"):
        new_model({"architecture": "mixtral", **sizes}, 50, 0)
    model = new_model({"architecture": "mixtral", **sizes, "output_router_logits": False}, 50, 0)
    model.config.output_router_logits = True
    model.save_pretrained(tmp_path)
    with pytest.raises(DataError, match="set output_router_logits to false in a copy"):
        load_model(str(tmp_path))


def test_an_encoder_decoder_that_is_not_supported_is_refused_as_one(tmp_path: Path) -> None:
    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2}
    more = {"decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "vocab_size": 40}
    BartForConditionalGeneration(BartConfig(**sizes, **more)).save_pretrained(tmp_path)
    with pytest.raises(DataError, match="bart is an encoder-decoder, and of these only mt5 and t5 are supported"):
        load_model(str(tmp_path))


def test_a_family_made_of_several_models_names_its_text_model() -> None:
    with pytest.raises(RecipeError, match=r"gemma3 is made of several models.*; use its text model, gemma3_text"):
        new_model({"architecture": "gemma3", "hidden_size": 32}, 50, 0)


def test_what_text_does_not_pass_through_is_not_trained(tmp_path: Path) -> None:
    text = {**SIZES["llama"], "vocab_size": 60, "head_dim": 8}
    vision = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = Gemma3Config(text_config=text, vision_config={**vision, "image_size": 28, "patch_size": 14})
    Gemma3ForConditionalGeneration(config).save_pretrained(tmp_path)
    policy = Policy(load_model(str(tmp_path)))
    assert self_test(policy, 50, 20).layout == "tree"
    assert not any("vision" in name for name in policy.parameters())
    assert any("embed_tokens" in name for name in policy.parameters())
    assert choose_decoding(policy.model).notice is None
    assert (rows_of(policy.model), context_length(policy.model.config)) == (60, 131_072)


def test_two_matrices_that_are_declared_tied_are_recorded_as_separate(tmp_path: Path) -> None:
    small_model("llama", tied=True).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    head = torch.randn_like(weights["model.embed_tokens.weight"])
    save_file({**weights, "lm_head.weight": head}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    model = load_model(str(tmp_path))
    assert not model.config.tie_word_embeddings
    assert torch.equal(model.get_output_embeddings().weight, head)  # type: ignore[no-untyped-call]
    (tmp_path / "again").mkdir()
    model.save_pretrained(tmp_path / "again")
    assert not json.loads((tmp_path / "again" / "config.json").read_text())["tie_word_embeddings"]


def test_a_buffer_that_is_not_finite_is_found(tmp_path: Path) -> None:
    model = tiny_model("deepseek_v3")
    model.save_pretrained(tmp_path)
    load_model(str(tmp_path))
    weights = load_file(tmp_path / "model.safetensors")
    name = next(name for name in weights if name.endswith("e_score_correction_bias"))
    assert name not in dict(model.named_parameters())
    weights[name][0] = float("nan")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DataError, match=f"the weight '{name}' holds numbers that are not finite"):
        load_model(str(tmp_path))
