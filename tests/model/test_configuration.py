"""Entries of published configurations reach transformers; those that choose files, code or devices do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import CONFIG_MAPPING

from tunesmith.errors import DataError
from tunesmith.model.configuration import ORIGIN, check_config

FAMILIES = ("falcon", "gemma3", "gemma3_text", "gpt2", "gpt_neox", "llama", "mamba", "opt", "phi3", "qwen3", "t5")
# Entries of published files that no version 5 of transformers has as fields.
STALE = {
    "rope_theta": 5e5,
    "rotary_pct": 0.25,
    "n_ctx": 1024,
    "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
    "torchscript": False,
    "summary_first_dropout": 0.1,
    "sliding_window": None,
    "time_step_limit": [0.0, float("inf")],
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_entry_that_a_family_writes_is_read(family: str) -> None:
    content = {**json.loads(CONFIG_MAPPING[family]().to_json_string(use_diff=False)), "model_type": family, **STALE}
    found = check_config(content, Path("config.json"))
    assert found.unused == ()
    assert without_origin(found.entries) == without_origin(content)


def without_origin(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_origin(each) for key, each in value.items() if key not in ORIGIN}
    return value


def test_entries_that_are_not_used_are_named() -> None:
    content = {
        "model_type": "llama",
        "auto_map": {"AutoConfig": "code.Own"},
        "_attn_implementation": "eager",
        "_attn_implementation_autoset": True,
        "to_dict": 1,
        "_name_or_path": "somewhere",
    }
    found = check_config(content, Path("config.json"))
    assert found.unused == ("_attn_implementation", "_attn_implementation_autoset", "auto_map", "to_dict")
    assert dict(found.entries) == {"model_type": "llama"}


def test_what_a_forward_pass_returns_is_not_chosen_by_the_file() -> None:
    asked = {"output_attentions": True, "output_hidden_states": True, "return_dict": False}
    found = check_config({"model_type": "llama", **asked, "use_cache": False}, Path("config.json"))
    assert found.unused == tuple(sorted(asked))
    assert dict(found.entries) == {"model_type": "llama", "use_cache": False}


@pytest.mark.parametrize("size", [0, -1, False])
def test_a_window_that_no_token_is_in_is_refused(size: int) -> None:
    where = Path("config.json")
    with pytest.raises(DataError, match=r"'sliding_window' is .*, so a token would not see even itself; set .* null"):
        check_config({"model_type": "mistral", "sliding_window": size}, where)
    for harmless in (
        {"model_type": "qwen2", "sliding_window": size, "use_sliding_window": False},
        {"model_type": "mistral", "sliding_window": None},
        {"model_type": "mistral", "sliding_window": 1},
        {"model_type": "llama", "sliding_window": size},
    ):
        check_config(harmless, where)


def test_entries_of_the_parts_of_a_model_are_checked_too() -> None:
    inner = {"model_type": "gemma3_text", "hidden_size": 32, "_attn_implementation": "evil/repo", "auto_map": {}}
    found = check_config({"model_type": "gemma3", "text_config": inner}, Path("config.json"))
    assert found.entries["text_config"] == {"model_type": "gemma3_text", "hidden_size": 32}


def test_quantised_weights_are_refused_with_their_kind() -> None:
    with pytest.raises(DataError, match=r"the weights are quantised \(quantization_config: 'gptq'\)"):
        check_config({"model_type": "llama", "quantization_config": {"quant_method": "gptq"}}, Path("config.json"))
