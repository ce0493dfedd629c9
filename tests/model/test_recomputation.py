"""Recomputing some layers saves their activations and changes no gradient."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedModel

from tests.model.padded import small_t5
from tests.model.trees import random_tree, small_model
from tunesmith.batch.example import Example
from tunesmith.batch.packed import assemble_packed
from tunesmith.errors import RecipeError
from tunesmith.model import recomputation as module
from tunesmith.model.load import new_model
from tunesmith.model.policy import Policy
from tunesmith.model.recomputation import recompute_layers

SIZES = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}


def deep() -> PreTrainedModel:
    return new_model({"architecture": "llama", "num_hidden_layers": 8, **SIZES}, 64, 0)


def recomputed(model: PreTrainedModel) -> list[int]:
    layers = model.get_submodule("model.layers")
    return [index for index, layer in enumerate(layers) if layer.gradient_checkpointing]


@pytest.mark.parametrize(
    ("share", "expected"),
    [(1.0, list(range(8))), (0.5, [1, 3, 5, 7]), (0.25, [3, 7]), (0.75, [1, 2, 3, 5, 6, 7]), (0.01, [7])],
)
def test_the_layers_are_spread_over_the_depth(share: float, expected: list[int]) -> None:
    model = deep()
    recompute_layers(model, share)
    assert recomputed(model) == expected


def test_a_share_of_the_layers_gives_the_same_gradients_and_saves_less_than_nothing_recomputed() -> None:
    saved: dict[float, int] = {}
    gradients: dict[float, dict[str, torch.Tensor]] = {}
    batch = assemble_packed([Example(0, random_tree(1))], "threads")
    for share in (0.0, 0.5, 1.0):
        model = small_model("llama")
        if share:
            recompute_layers(model, share)
        policy, elements = Policy(model), [0]

        def count(tensor: torch.Tensor, elements: list[int] = elements) -> torch.Tensor:
            elements[0] += tensor.numel()
            return tensor

        policy.train()
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            loss = policy.log_probabilities(batch).log_probability.sum()
        saved[share] = elements[0]
        loss.backward()  # type: ignore[no-untyped-call]
        gradients[share] = {name: each.grad for name, each in policy.parameters().items() if each.grad is not None}
    assert saved[1.0] < saved[0.5] < saved[0.0]
    for share in (0.5, 1.0):
        for name, gradient in gradients[0.0].items():
            torch.testing.assert_close(gradients[share][name], gradient, rtol=1e-5, atol=1e-7)


def test_both_stacks_of_an_encoder_decoder_have_layers_that_are_recomputed() -> None:
    model = small_t5()
    recompute_layers(model, 0.5)
    blocks = [module for name, module in model.named_modules() if name.rpartition(".")[0].endswith("block")]
    assert sum(block.gradient_checkpointing for block in blocks) == len(blocks) // 2


def test_a_family_whose_layers_cannot_be_switched_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GradientCheckpointingLayer", torch.nn.Bilinear)
    recompute_layers(deep())
    with pytest.raises(RecipeError, match="cannot be recomputed one by one"):
        recompute_layers(deep(), 0.5)
