"""Small random models of the two causal families."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformers import AutoModelForCausalLM, GPTNeoXConfig, LlamaConfig, PreTrainedModel


def _random_model(family: str, rows: int = 64, context: int = 96) -> PreTrainedModel:
    common = {
        "vocab_size": rows,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": context,
        "initializer_range": 0.3,  # a wide range: replies differ and end at different places
        "bos_token_id": None,
        "eos_token_id": None,
    }
    config = GPTNeoXConfig(**common) if family == "gpt_neox" else LlamaConfig(**common, num_key_value_heads=2)
    torch.manual_seed(5)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    return model.eval()


@pytest.fixture(scope="session")
def random_model() -> Callable[..., PreTrainedModel]:
    """random_model("llama", rows=64, context=96) -> a fresh model in evaluation mode, always with the same weights."""
    return _random_model


@pytest.fixture(scope="module", params=["gpt_neox", "llama"])
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    return _random_model(request.param)
