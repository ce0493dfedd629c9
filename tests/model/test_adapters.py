"""Adapters that are off give the base model to the bit; merged ones give the adapted model; only they are trained."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from tests.model.padded import small_t5
from tests.model.trees import VOCABULARY, random_tree, small_model
from tunesmith.batch.example import Example
from tunesmith.batch.packed import PackedBatch, assemble_packed
from tunesmith.errors import RecipeError
from tunesmith.model import head
from tunesmith.model.adapters import (
    AdapterSettings,
    adapters_off,
    add_adapters,
    find_layers,
    merge_adapters,
    train_rows,
    trained_module,
)
from tunesmith.model.base_policy import BasePolicy
from tunesmith.model.policy import Policy

SETTINGS = AdapterSettings(4, 8.0)
FIRST = VOCABULARY - 11


def batch() -> PackedBatch:
    return assemble_packed([Example(number, random_tree(number)) for number in range(3)], "messages")


def adapted(architecture: str, *, rows: bool = False, tied: bool = False, checkpointing: bool = False) -> Policy:
    """A policy whose adapters are not zero."""
    model = small_model(architecture, tied=tied, checkpointing=checkpointing)
    add_adapters(model, SETTINGS, 1)
    if rows:
        train_rows(model, FIRST, VOCABULARY - 4)
    policy = Policy(model)
    shift(policy.parameters())
    return policy


@torch.no_grad()
def shift(parameters: dict[str, torch.nn.Parameter]) -> None:
    draw = torch.Generator().manual_seed(3)
    for parameter in parameters.values():
        parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw))


def values(policy: Policy) -> Tensor:
    return policy.log_probabilities(batch()).log_probability.detach()


@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("architecture", ["gpt_neox", "llama"])
def test_off_is_the_base_to_the_bit_and_merged_is_the_adapted_model(architecture: str, tied: bool, rows: bool) -> None:
    base = small_model(architecture, tied=tied)
    names, expected = set(base.state_dict()), values(Policy(base))
    policy = adapted(architecture, rows=rows, tied=tied)
    on = values(policy)
    assert float((on - expected).abs().max()) > 0.05
    assert names <= set(policy.model.state_dict())
    with adapters_off(policy.model):
        assert torch.equal(values(policy), expected)
    assert torch.equal(BasePolicy(policy).log_probabilities(batch()).log_probability, expected)
    assert torch.equal(values(policy), on), "the switch is back"
    merged = copy.deepcopy(policy.model)
    merge_adapters(merged)
    assert set(merged.state_dict()) == names
    assert float((values(Policy(merged)) - on).abs().max()) < 1e-5
    stock = small_model(architecture, tied=tied)
    stock.load_state_dict(merged.state_dict(), strict=True)
    logits = [
        model(input_ids=torch.arange(FIRST - 5, FIRST + 4)[None]).logits.detach() for model in (stock, policy.model)
    ]
    assert float((logits[0] - logits[1]).abs().max()) < 1e-5


def test_new_adapters_change_nothing() -> None:
    base = small_model("gpt_neox")
    expected = values(Policy(base))
    add_adapters(base, SETTINGS, 1)
    train_rows(base, FIRST, VOCABULARY)
    assert torch.equal(values(Policy(base)), expected)


def test_merged_weights_are_the_sum_to_a_millionth() -> None:
    policy = adapted("llama")
    name = "model.layers.1.mlp.down_proj"
    layer, weight = policy.model.get_submodule(name), policy.model.get_submodule(name).weight.detach().clone()
    b, a = (getattr(layer.adapter, key).detach().double() for key in ("lora_b", "lora_a"))
    merge_adapters(policy.model)
    assert float((layer.weight.double() - (weight.double() + 2.0 * b @ a)).abs().max()) < 1e-6
    assert all(parameter.requires_grad for parameter in policy.model.parameters())


@pytest.mark.parametrize("rows", [False, True])
def test_only_adapters_get_gradients_also_with_recomputed_layers(rows: bool) -> None:
    found: list[dict[str, Tensor]] = []
    for checkpointing in (False, True):
        policy = adapted("llama", rows=rows, checkpointing=checkpointing)
        policy.train()
        policy.log_probabilities(batch()).log_probability.sum().backward()
        gradients = {name: each.grad for name, each in policy.model.named_parameters() if each.grad is not None}
        assert gradients.keys() == policy.parameters().keys()
        assert all(".adapter." in name for name in gradients)
        found.append({name: gradient for name, gradient in gradients.items() if gradient is not None})
    for name, gradient in found[0].items():
        assert float(gradient.abs().max()) > 0, name
        assert torch.allclose(gradient, found[1][name], atol=1e-6), name


def test_gradients_are_those_of_the_merged_weights() -> None:
    """d loss / d B = s (d loss / d W) A^T, computed by the model without adapters."""
    policy = adapted("gpt_neox")
    policy.log_probabilities(batch()).log_probability.sum().backward()
    merged = copy.deepcopy(policy.model)
    merge_adapters(merged)
    merged.zero_grad()
    Policy(merged).log_probabilities(batch()).log_probability.sum().backward()
    for name in find_layers(merged, None):
        adapter, weight = policy.model.get_submodule(f"{name}.adapter"), merged.get_submodule(name).weight
        assert torch.allclose(adapter.lora_b.grad, 2.0 * weight.grad @ adapter.lora_a.T, atol=2e-4), name
        assert torch.allclose(adapter.lora_a.grad, 2.0 * adapter.lora_b.T @ weight.grad, atol=2e-4), name


def test_a_frozen_head_computes_no_gradient_of_the_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    buffers: list[object] = []
    real = head._HeadOutputs.__init__

    def watched(self: head._HeadOutputs, *arguments: object) -> None:
        real(self, *arguments)  # type: ignore[arg-type]
        buffers.append(self.weight)

    monkeypatch.setattr(head._HeadOutputs, "__init__", watched)
    policy = adapted("gpt_neox")
    hint = torch.ones(batch().target.shape)
    policy.log_probabilities(batch(), hint).log_probability.sum().backward()
    assert buffers == [None]
    policy = adapted("gpt_neox", rows=True)
    policy.log_probabilities(batch(), hint).log_probability.sum().backward()
    assert buffers[-1] is not None


def test_what_a_checkpoint_holds_are_the_trained_parameters_themselves() -> None:
    policy = adapted("llama", rows=True)
    held = trained_module(policy.model)
    assert dict(held.named_parameters()).keys() == policy.parameters().keys()
    zeros = {name: torch.zeros_like(tensor) for name, tensor in held.state_dict().items()}
    held.load_state_dict(zeros, strict=True)
    assert all(not bool(parameter.any()) for parameter in policy.parameters().values())
    plain = small_model("llama")
    assert trained_module(plain) is plain


def test_an_encoder_decoder_is_adapted_in_both_stacks_and_with_one_embedding() -> None:
    @torch.no_grad()
    def outputs(model: PreTrainedModel) -> Tensor:
        ids = torch.arange(2, 12)[None]
        return model(input_ids=ids, decoder_input_ids=ids.flip(1)).logits

    base = small_t5()
    expected = outputs(base)
    layers = find_layers(base, None)
    assert {name.split(".")[0] for name in layers} == {"encoder", "decoder"}
    add_adapters(base, SETTINGS, 0)
    assert torch.equal(outputs(base), expected)
    train_rows(base, 3, 8)
    assert torch.allclose(outputs(base), expected, atol=1e-5), "the product of five rows adds up in another order"
    shift({name: each for name, each in base.named_parameters() if each.requires_grad})
    on = outputs(base)
    with adapters_off(base):
        assert torch.equal(outputs(base), expected)
    merge_adapters(base)
    assert float((on - expected).abs().max()) > 0.05
    assert float((outputs(base) - on).abs().max()) < 1e-4


def test_a_target_that_is_no_layer_is_refused_with_those_there_are() -> None:
    with pytest.raises(RecipeError, match=r"no linear layer named 'q_prj'.*down_proj, gate_proj.*q_proj"):
        add_adapters(small_model("llama"), AdapterSettings(4, 8.0, ("q_prj",)), 0)


def test_targets_choose_layers_by_the_end_of_their_names() -> None:
    model = small_model("llama")
    add_adapters(model, AdapterSettings(4, 8.0, ("q_proj", "v_proj")), 0)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert {name.split(".")[-3] for name in trained} == {"q_proj", "v_proj"}


def test_the_scale_of_a_stabilized_adapter_has_the_root_of_its_rank() -> None:
    assert AdapterSettings(16, 8.0).scale == 0.5
    assert AdapterSettings(16, 8.0, rank_stabilized=True).scale == 2.0
