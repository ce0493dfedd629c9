"""The self-test finds families whose attention does not follow the layout."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from tests.model.padded import START, VOCABULARY, small_t5
from tests.model.trees import SIZES, small_model
from tunesmith.errors import RecipeError
from tunesmith.model import backbone as backbone_module
from tunesmith.model.load import new_model
from tunesmith.model.policy import Policy
from tunesmith.model.reward_model import new_reward_model
from tunesmith.model.scalar_policy import ScalarPolicy
from tunesmith.model.seq2seq import Seq2SeqPolicy
from tunesmith.verify.self_test import self_test, self_test_scalars
from tunesmith.verify.self_test_padded import self_test_padded

LLAMA = SIZES["llama"]


@pytest.mark.parametrize(
    ("init", "layout"),
    [
        ({"architecture": "gpt_neox", **SIZES["gpt_neox"]}, "tree"),
        ({"architecture": "llama", **LLAMA}, "tree"),
        ({"architecture": "qwen2", **LLAMA}, "tree"),
        ({"architecture": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 4}, "tree"),
        ({"architecture": "mistral", **LLAMA, "sliding_window": None}, "tree"),
        ({"architecture": "mistral", **LLAMA, "sliding_window": 30}, "tree"),
        ({"architecture": "bloom", "hidden_size": 32, "n_layer": 2, "n_head": 4}, "threads"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_family_gets_the_layout_that_is_exact_for_it(init: dict[str, Any], layout: str) -> None:
    verdict = self_test(Policy(new_model(init, 100, 0)), 100, longest=40)
    assert verdict.layout == layout


@pytest.mark.filterwarnings("ignore")
def test_a_window_longer_than_any_thread_does_not_matter() -> None:
    model = new_model({"architecture": "mistral", **LLAMA, "sliding_window": 30}, 100, 0)
    assert self_test(Policy(model), 100, longest=30).layout == "tree"


LONGROPE = {
    **{"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 30},
    **{"short_factor": [1.0] * 4, "long_factor": [8.0] * 4},
}


@pytest.mark.parametrize("factor", [1, 10])
@pytest.mark.filterwarnings("ignore")
def test_small_weights_do_not_hide_positions_that_depend_on_the_longest_thread(factor: float) -> None:
    """With the weights of a new model the difference is 0.0008; logits of 0.4 explain 0.00004."""
    init = {**LLAMA, "rope_parameters": LONGROPE, "max_position_embeddings": 128, "pad_token_id": 0}
    model = new_model({"architecture": "phi3", **init, "original_max_position_embeddings": 30}, 100, 0)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(factor)
    assert self_test(Policy(model), 100, longest=20).layout == "tree"
    assert self_test(Policy(model), 100, longest=60).layout == "threads"


@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("factor", [0.01, 1, 30])
def test_rounding_is_allowed_for_weights_of_any_size(factor: float, compute: torch.dtype) -> None:
    model = small_model("llama")
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(factor)
    assert self_test(Policy(model, compute=compute), 100, longest=40).layout == "tree"


@pytest.mark.filterwarnings("ignore")
def test_insisting_on_the_tree_layout_is_refused_where_it_is_wrong() -> None:
    model = new_model({"architecture": "bloom", "hidden_size": 32, "n_layer": 2, "n_head": 4}, 100, 0)
    with pytest.raises(RecipeError, match=r"set model\.layout to auto"):
        self_test(Policy(model), 100, longest=20, wanted="tree")


def test_an_attention_that_leaks_between_segments_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbone_module, "prepare", lambda layout, device, dtype: _Leaky())
    assert self_test(Policy(small_model("gpt_neox")), 100, longest=20).layout == "threads"


class _Leaky:
    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None, terms: object = None
    ) -> torch.Tensor:
        return torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling)


def with_nan(model: PreTrainedModel, *, everywhere: bool = True) -> PreTrainedModel:
    """The model with NaN for all of its weights, or for one number of its last layer."""
    with torch.no_grad():
        for weight in model.parameters() if everywhere else list(model.base_model.parameters())[-1:]:
            weight.view(-1)[slice(None) if everywhere else 0] = torch.nan
    return model


NAN = r"model: the {} of .* are NaN or infinite, also in the stock model; its weights hold NaN"


@pytest.mark.parametrize("everywhere", [True, False])
@pytest.mark.parametrize("wanted", [None, "tree", "threads"])
@pytest.mark.parametrize("architecture", ["gpt_neox", "llama"])
def test_a_model_with_nan_in_its_weights_is_refused(architecture: str, wanted: Any, everywhere: bool) -> None:
    model = with_nan(small_model(architecture), everywhere=everywhere)
    with pytest.raises(RecipeError, match=NAN.format("log-probabilities")):
        self_test(Policy(model), 100, longest=40, wanted=wanted)


def test_a_reward_model_with_nan_in_its_weights_is_refused() -> None:
    model = with_nan(new_reward_model({"architecture": "llama", **LLAMA}, 100, 0))
    with pytest.raises(RecipeError, match=NAN.format("states")):
        self_test_scalars(ScalarPolicy(model), 100, longest=40)


def test_an_encoder_decoder_with_nan_in_its_weights_is_refused() -> None:
    with pytest.raises(RecipeError, match=NAN.format("log-probabilities")):
        self_test_padded(Seq2SeqPolicy(with_nan(small_t5())), VOCABULARY, 20, 10, START)


def test_nan_that_only_our_batches_give_is_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbone_module, "prepare", lambda layout, device, dtype: _NotANumber())
    with pytest.raises(RecipeError, match=r"does not give the same log-probabilities .* by layout tree: nan; allowed"):
        self_test(Policy(small_model("gpt_neox")), 100, longest=20, wanted="tree")
    assert self_test(Policy(small_model("gpt_neox")), 100, longest=20).layout == "threads"


class _NotANumber:
    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None, terms: object = None
    ) -> torch.Tensor:
        return torch.full_like(query, torch.nan)
