"""The files of an export: number format, end tokens, permissions, and the entries that transformers 4.57 reads."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoTokenizer, Qwen2Config

from tests.campaigns.family_models import tiny_model
from tests.model.trees import small_model
from tests.text.small_tokenizers import byte_level, prefixed, write_tokenizer
from tunesmith.model.export import ExportInfo, export, fits, save_model
from tunesmith.model.exported_config import legacy_entries
from tunesmith.model.stock_tokenizer import find_tokenizer_fault
from tunesmith.text.formats.registry import build_format
from tunesmith.text.tokenizer.tokenizer import Tokenizer

LONGROPE = {"rope_type": "longrope", "short_factor": [1.0], "long_factor": [2.0]}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}, {"rope_theta": 5e5}),
        (
            {"rope_parameters": {**LLAMA3, "rope_theta": 5e5}, "dtype": "bfloat16"},
            {"rope_theta": 5e5, "rope_scaling": LLAMA3, "torch_dtype": "bfloat16"},
        ),
        (
            {"model_type": "gpt_neox", "rope_parameters": {"rope_theta": 7.0, "partial_rotary_factor": 0.5}},
            {"rotary_emb_base": 7.0, "rotary_pct": 0.5},
        ),
        (
            {"rope_parameters": {"full_attention": {"rope_theta": 2.0}, "sliding_attention": {"rope_theta": 1.0}}},
            {"rope_theta": 2.0, "global_rope_theta": 2.0, "rope_local_base_freq": 1.0, "local_rope_theta": 1.0},
        ),
        (
            {"rope_parameters": {**LONGROPE, "original_max_position_embeddings": 4, "rope_theta": 3.0}},
            {"rope_theta": 3.0, "rope_scaling": {"type": "longrope", "short_factor": [1.0], "long_factor": [2.0]}},
        ),
        ({"rope_parameters": {"rope_theta": 1.0}, "rope_theta": 9.0}, {}),
        ({"n_embd": 3}, {}),
    ],
)
def test_the_entries_of_version_4_follow_from_those_of_version_5(
    config: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert legacy_entries(config) == expected


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", ["llama", "gpt_neox", "gemma3_text", "gemma4_text"])
def test_version_5_reads_the_same_configuration_with_and_without_them(tmp_path: Path, family: str) -> None:
    model = tiny_model(family)
    save_model(model, tmp_path)
    found, before = AutoConfig.from_pretrained(tmp_path).to_dict(), model.config.to_dict()
    assert found["rope_parameters"] == before["rope_parameters"]
    base = "rotary_emb_base" if family == "gpt_neox" else "rope_theta"
    assert (base in read(tmp_path / "config.json")) == (family != "gemma4_text")


@pytest.mark.parametrize("tied", [False, True])
def test_weights_are_written_in_the_wanted_number_format(tmp_path: Path, tied: bool) -> None:
    model = small_model("llama", tied=tied)
    save_model(model, tmp_path, torch.bfloat16)
    written = load_file(tmp_path / "model.safetensors")
    assert {value.dtype for value in written.values()} == {torch.bfloat16}
    assert ("lm_head.weight" in written) != tied
    assert model.dtype == torch.float32
    config = read(tmp_path / "config.json")
    assert (config["dtype"], config["torch_dtype"]) == ("bfloat16", "bfloat16")


def test_weights_that_are_too_large_for_a_format_are_found() -> None:
    model = small_model("llama")
    assert fits(model, torch.float16)
    with torch.no_grad():
        next(iter(model.parameters())).view(-1)[0] = 70_000.0
    assert not fits(model, torch.float16)
    assert fits(model, torch.bfloat16)


def exported(root: Path, name: str, tokenizer: Tokenizer) -> Path:
    info = ExportInfo(name, {}, 64, {"do_sample": False}, "new", "test", 1)
    export(root / "export", small_model("llama"), tokenizer, build_format(name), info)
    return root / "export"


@pytest.mark.parametrize(("name", "end"), [("chatml", None), ("tulu", "</s>"), ("oasst", "</s>")])
def test_all_files_end_and_pad_with_the_same_tokens_and_have_the_same_permissions(
    tmp_path: Path, name: str, end: str | None
) -> None:
    symbols = {"bos": "<s>", "unk": "<unk>", **({"eos": end} if end is not None else {})}
    path = write_tokenizer(tmp_path / "tokenizer", prefixed(), **symbols)
    directory = exported(tmp_path, name, Tokenizer.load(str(path), build_format(name).controls))
    config, generation = read(directory / "config.json"), read(directory / "generation_config.json")
    for key in ("eos_token_id", "pad_token_id", "bos_token_id"):
        assert config.get(key) == generation.get(key)
    stock = AutoTokenizer.from_pretrained(directory)
    ends = generation["eos_token_id"]
    assert stock.eos_token_id in (ends if isinstance(ends, list) else [ends])
    assert stock.pad_token_id == generation.get("pad_token_id")
    modes = {stat.S_IMODE(file.stat().st_mode) for file in directory.iterdir()}
    assert modes == {stat.S_IMODE((tmp_path / "tokenizer" / "tokenizer.json").stat().st_mode)}


def test_a_tokenizer_that_transformers_replaces_is_found(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(str(write_tokenizer(tmp_path / "one", prefixed(), bos="<s>", eos="</s>", unk="<unk>")))
    assert find_tokenizer_fault(small_model("llama").config, tokenizer) is None
    fault = find_tokenizer_fault(Qwen2Config(), tokenizer)
    assert fault is not None
    assert "as that of qwen2 (Qwen2Tokenizer) and gives other ids" in fault
    end = "<|endoftext|>"
    other = Tokenizer.load(str(write_tokenizer(tmp_path / "two", byte_level(), bos=end, eos=end)))
    assert find_tokenizer_fault(small_model("gpt_neox").config, other) is None
