"""Models without numbers have the parameters of real ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tunesmith.errors import RecipeError
from tunesmith.model.load import new_model
from tunesmith.model.outline import depth_of, outline
from tunesmith.model.reward_model import new_reward_model

SIZES: dict[str, dict[str, Any]] = {
    "gpt_neox": {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64},
    "llama": {
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 48,
        "tie_word_embeddings": True,
    },
    "qwen3": {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 48},
    "t5": {
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 64,
        "num_layers": 3,
        "num_heads": 4,
        "feed_forward_proj": "gated-gelu",
        "tie_word_embeddings": False,
    },
}


def shapes(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(each.shape) for name, each in model.named_parameters()}


@pytest.mark.parametrize("architecture", SIZES)
def test_an_outline_has_the_parameters_of_the_model_and_no_memory(architecture: str) -> None:
    real = new_model({"architecture": architecture, **SIZES[architecture]}, 101, 0)
    found = outline({"model_type": architecture, "vocab_size": 101, **SIZES[architecture]}, dtype=torch.bfloat16)
    assert shapes(found) == shapes(real)
    assert all(each.is_meta and each.dtype == torch.bfloat16 for each in found.parameters())


def test_an_outline_of_a_reward_model_has_its_head() -> None:
    real = new_reward_model({"architecture": "llama", **SIZES["llama"]}, 101, 0)
    assert shapes(outline({"model_type": "llama", "vocab_size": 101, **SIZES["llama"]}, scores=True)) == shapes(real)


@pytest.mark.parametrize("architecture", SIZES)
@pytest.mark.parametrize("layers", [1, 2])
def test_an_outline_may_have_fewer_layers(architecture: str, layers: int) -> None:
    found = outline({"model_type": architecture, "vocab_size": 101, **SIZES[architecture]}, layers=layers)
    assert depth_of(found.config) == layers
    whole = shapes(outline({"model_type": architecture, "vocab_size": 101, **SIZES[architecture]}))
    assert shapes(found).items() < whole.items()


def test_sizes_that_make_no_model_are_an_error_of_the_recipe() -> None:
    with pytest.raises(RecipeError, match="no model can be built"):
        outline({"model_type": "llama", "hidden_size": 32, "num_attention_heads": 0})
