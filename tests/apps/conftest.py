"""Directories with small models that generate random text."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from tests.text.small_tokenizers import byte_level, write_tokenizer
from tunesmith.files import write_json

CONTEXT = 4096


def write_model(directory: Path, format: str, **names: str) -> Path:
    """Random weights and a byte-level tokenizer; without an ``eos`` token a reply ends only at its length limit."""
    write_tokenizer(directory, byte_level(), **names)
    config = LlamaConfig(
        vocab_size=448, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=CONTEXT, initializer_range=0.1, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    torch.manual_seed(2)
    AutoModelForCausalLM.from_config(config).save_pretrained(directory)
    sampling = {"temperature": 1.0, "max_new_tokens": 8}
    write_json(directory / "tunesmith.json", {"format": format, "sampling": sampling})
    return directory


@pytest.fixture(scope="session")
def model_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "plain", "plain")


@pytest.fixture(scope="session")
def single_turn_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "alpaca", "alpaca", eos="<|endoftext|>")
