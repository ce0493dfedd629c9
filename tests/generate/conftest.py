"""Small random models: the two causal families, and one with absolute positions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPTNeoXConfig, LlamaConfig, PretrainedConfig, PreTrainedModel


def _random_model(family: str, rows: int = 64, context: int = 96) -> PreTrainedModel:
    common: dict[str, Any] = {
        "vocab_size": rows,
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": context,
        "initializer_range": 0.3,  # a wide range: replies differ and end at different places
        "bos_token_id": None,
        "eos_token_id": None,
    }
    configurations: dict[str, Callable[[], PretrainedConfig]] = {
        "gpt_neox": lambda: GPTNeoXConfig(**common, intermediate_size=48),
        "llama": lambda: LlamaConfig(**common, intermediate_size=48, num_key_value_heads=2),
        "gpt2": lambda: GPT2Config(**common),
    }
    config = configurations[family]()
    torch.manual_seed(5)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    return model.eval()


@pytest.fixture(scope="session")
def random_model() -> Callable[..., PreTrainedModel]:
    """random_model("llama", rows=64, context=96) -> a fresh model in evaluation mode, always with the same weights."""
    return _random_model


@pytest.fixture(scope="module", params=["gpt_neox", "llama", "gpt2"])
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    return _random_model(request.param)
