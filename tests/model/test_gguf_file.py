"""Files for llama.cpp: the vocabulary and the order of weights, checked without llama.cpp (make gguf has that)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from tests.apps.sampled_models import write_causal
from tests.model.trees import small_model
from tests.text.small_tokenizers import byte_level, prefixed, t5_like, words
from tunesmith.errors import DataError
from tunesmith.model.gguf_file import check_plain, rearrange, write_gguf
from tunesmith.model.gguf_vocabulary import TokenKind, read_vocabulary

HEADS, KEYS, SIZE, WIDTH, LENGTH = 4, 2, 6, 24, 5
WHERE = Path("tokenizer.json")


def rotated(values: Tensor, pairs: list[tuple[int, int]]) -> Tensor:
    """Values of one head, [tokens, size], turned by their position: one angle for each pair of numbers."""
    found = values.clone()
    for number, (one, other) in enumerate(pairs):
        angle = torch.arange(len(values)) * 10.0 ** (-number)
        cos, sin = angle.cos(), angle.sin()
        found[:, one] = values[:, one] * cos - values[:, other] * sin
        found[:, other] = values[:, one] * sin + values[:, other] * cos
    return found


def test_rotating_neighbours_of_the_new_rows_is_rotating_halves_of_the_old() -> None:
    torch.manual_seed(0)
    config = {"num_attention_heads": HEADS, "num_key_value_heads": KEYS}
    x = torch.randn(LENGTH, WIDTH)
    scores = []
    halves = [(number, number + SIZE // 2) for number in range(SIZE // 2)]
    neighbours = [(number, number + 1) for number in range(0, SIZE, 2)]
    query, key = torch.randn(HEADS * SIZE, WIDTH), torch.randn(KEYS * SIZE, WIDTH)
    moved = [
        rearrange(config, f"model.layers.0.self_attn.{name}_proj.weight", w) for name, w in (("q", query), ("k", key))
    ]
    for weights, pairs in (((query, key), halves), (moved, neighbours), (moved, halves)):
        q, k = ((x @ weight.T).unflatten(1, (-1, SIZE)) for weight in weights)
        scores.append(torch.stack([rotated(q[:, i], pairs) @ rotated(k[:, i // 2], pairs).T for i in range(HEADS)]))
    torch.testing.assert_close(scores[1], scores[0])
    assert not torch.allclose(scores[2], scores[0]), "the order matters"
    value = torch.randn(KEYS * SIZE, WIDTH)
    assert rearrange(config, "model.layers.0.self_attn.v_proj.weight", value) is value


def test_queries_keys_and_values_of_neox_are_one_after_the_other() -> None:
    model = small_model("gpt_neox")
    config = {"num_attention_heads": model.config.num_attention_heads}
    size = model.config.hidden_size // model.config.num_attention_heads
    for name, tensor in model.state_dict().items():
        if "query_key_value" not in name:
            assert rearrange(config, name, tensor) is tensor
            continue
        parts = rearrange(config, name, tensor).chunk(3)
        for head in range(model.config.num_attention_heads):
            block = tensor[head * 3 * size : (head + 1) * 3 * size]
            for part, rows in zip(parts, block.chunk(3), strict=True):
                assert torch.equal(part[head * size : (head + 1) * size], rows)


def ids_of(definition: dict[str, Any]) -> dict[str, int]:
    """Text -> id of every token, by the library that reads the file."""
    return Tokenizer.from_str(json.dumps(definition)).get_vocab(with_added_tokens=True)


def test_tokens_have_their_kinds_and_merges() -> None:
    definition = byte_level()
    ids = ids_of(definition)
    found = read_vocabulary(definition, 600, WHERE)
    assert (found.model, list(found.scores)) == ("gpt2", [])
    assert [found.tokens[number] for number in ids.values()] == list(ids)
    assert found.kinds[ids["<|endoftext|>"]] == TokenKind.CONTROL
    assert (found.tokens[599], found.kinds[599]) == ("[unused 599]", TokenKind.UNUSED)
    assert len(found.merges) > 10


def test_scores_are_the_order_of_the_merges() -> None:
    definition = prefixed()
    ids = ids_of(definition)
    found = read_vocabulary(definition, len(ids), WHERE)
    assert (found.model, list(found.merges)) == ("llama", [])
    assert found.kinds[ids["<unk>"]] == TokenKind.UNKNOWN
    assert found.kinds[ids["<0x0A>"]] == TokenKind.BYTE
    merges = ["".join(each) for each in definition["model"]["merges"]]
    scores = [found.scores[ids[text]] for text in dict.fromkeys(merges)]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("make", [t5_like, words])
def test_a_tokenizer_that_llama_cpp_splits_otherwise_is_refused(make: Any) -> None:
    with pytest.raises(DataError, match="does not split texts like this tokenizer"):
        read_vocabulary(make(), 10, WHERE)
    changed = byte_level()
    changed["pre_tokenizer"]["add_prefix_space"] = True
    with pytest.raises(DataError, match="does not split texts like this tokenizer"):
        read_vocabulary(changed, 10, WHERE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, None),
        ({"attention_bias": True}, "attention_bias is True, and llama.cpp has False"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu', and llama.cpp has 'silu'"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1.0}}, "positions are scaled"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "no GGUF export of LlamaForSequenceClassification"),
        ({"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]}, "no GGUF export of T5"),
    ],
)
def test_what_llama_cpp_computes_otherwise_is_refused_by_name(change: dict[str, Any], message: str | None) -> None:
    config = {**small_model("llama").config.to_dict(), "architectures": ["LlamaForCausalLM"], **change}
    if message is None:
        check_plain(config, WHERE)
        return
    with pytest.raises(DataError, match=message):
        check_plain(config, WHERE)


def test_a_file_has_all_weights_and_the_settings_of_the_model(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    directory = write_causal(tmp_path / "model", "dolly")
    write_gguf(directory, tmp_path / "model.gguf", "small")
    reader = gguf.GGUFReader(tmp_path / "model.gguf")
    config = json.loads((directory / "config.json").read_text())
    fields = {name: field.contents() for name, field in reader.fields.items()}
    assert fields["general.architecture"] == "gptneox"
    assert fields["gptneox.rope.freq_base"] == config["rope_parameters"]["rope_theta"]
    assert fields["gptneox.rope.dimension_count"] == config["rotary_pct"] * config["hidden_size"] / 2
    assert fields["tokenizer.ggml.eos_token_id"] == config["eos_token_id"][0]
    assert fields["tokenizer.chat_template"].startswith("{")
    sizes = sorted(int(tensor.n_elements) for tensor in reader.tensors)
    assert sizes == sorted(tensor.numel() for tensor in load_file(directory / "model.safetensors").values())
