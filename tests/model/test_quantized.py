"""The code path of QLoRA, with other layers in place of those of bitsandbytes, which was never run: it needs a GPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.model.padded import small_t5
from tests.model.trees import random_tree, small_model
from tunesmith.batch.example import Example
from tunesmith.batch.packed import assemble_packed
from tunesmith.errors import RecipeError
from tunesmith.model.adapters import AdapterSettings, adapters_off, add_adapters, find_layers, trained_module
from tunesmith.model.dropout import ResidualDropout
from tunesmith.model.logits import measure_logit_rule
from tunesmith.model.policy import Policy
from tunesmith.model.quantized import quantize_layers

CPU = torch.device("cpu")
LEVELS = 7.0


class Params4bit(nn.Parameter):
    """Packs to one byte an element when it is moved, which stands for the move to a GPU."""

    scale: Tensor

    def __new__(
        cls, data: Tensor, requires_grad: bool, compress_statistics: bool, quant_type: str, module: nn.Module
    ) -> Params4bit:
        assert (requires_grad, compress_statistics, quant_type) == (False, True, "nf4")
        return torch.Tensor._make_subclass(cls, data, False)


class Linear4bit(nn.Linear):
    """A linear layer with rounded weights, which are kept in a format that takes no gradient."""

    def __init__(self, inputs: int, outputs: int, *, compute_dtype: torch.dtype, device: str, **words: Any) -> None:
        assert (words["compress_statistics"], words["quant_type"]) == (True, "nf4")
        super().__init__(inputs, outputs, bias=words["bias"], device=device)
        self.compute_dtype = compute_dtype

    def _apply(self, fn: Any, recurse: bool = True) -> Linear4bit:
        if self.weight.is_floating_point():
            values = self.weight.detach().float()
            self.scale = values.abs().amax(1, keepdim=True) / LEVELS
            packed = (values / self.scale).round().to(torch.int8)
            self.weight = nn.Parameter(packed, requires_grad=False)
        return super()._apply(fn, recurse)

    def forward(self, states: Tensor) -> Tensor:
        weight = (self.weight.float() * self.scale).to(self.compute_dtype)
        bias = None if self.bias is None else self.bias.to(self.compute_dtype)
        return nn.functional.linear(states.to(self.compute_dtype), weight, bias).to(states.dtype)


class Layers:
    """Stands for ``bitsandbytes.nn``."""

    Linear4bit = Linear4bit
    Params4bit = Params4bit


@pytest.mark.parametrize("architecture", ["gpt_neox", "llama"])
def test_adapters_are_trained_on_layers_of_few_bits(architecture: str) -> None:
    model = small_model(architecture, checkpointing=True)
    names = set(model.state_dict())
    rule = measure_logit_rule(model)
    add_adapters(model, AdapterSettings(4, 8.0), 1)
    trained = {name: each for name, each in model.named_parameters() if each.requires_grad}
    quantize_layers(model, find_layers(model, None), CPU, torch.float32, Layers)
    model.to(CPU)
    assert names <= set(model.state_dict())
    after = {name: each for name, each in model.named_parameters() if each.requires_grad}
    assert trained.keys() == after.keys() == dict(trained_module(model).named_parameters()).keys()
    assert all(trained[name] is after[name] for name in trained)
    kinds = {each.weight.dtype for each in find_layers(model, None).values()}
    assert kinds == {torch.int8}
    assert model.get_output_embeddings().weight.dtype == torch.float32
    policy = Policy(model, rule=rule, dropout=ResidualDropout(model, 0.1, "uniform"))
    policy.train()
    batch = assemble_packed([Example(0, random_tree(1))], "messages")
    before = policy.log_probabilities(batch).log_probability
    before.sum().backward()
    for name, parameter in policy.parameters().items():
        assert parameter.grad is not None, name
        with torch.no_grad():
            parameter.add_(0.1 * parameter.grad.sign() + 0.01)
    assert float((policy.log_probabilities(batch).log_probability - before).abs().max()) > 0.01
    policy.eval()
    with adapters_off(model):
        off = policy.log_probabilities(batch).log_probability.detach()
    plain = small_model(architecture)
    quantize_layers(plain, find_layers(plain, None), CPU, torch.float32, Layers)
    assert torch.equal(off, Policy(plain, rule=rule).log_probabilities(batch).log_probability.detach())


def test_an_encoder_decoder_is_quantised_in_both_stacks() -> None:
    model = small_t5()
    add_adapters(model, AdapterSettings(2, 4.0), 1)
    quantize_layers(model, find_layers(model, None), CPU, torch.float32, Layers)
    ids = torch.arange(2, 9)[None]
    model(input_ids=ids, decoder_input_ids=ids).logits.sum().backward()
    b = [each for name, each in model.named_parameters() if name.endswith("lora_b")]
    assert b
    assert all(each.grad is not None and bool(each.grad.any()) for each in b)


def test_without_a_gpu_it_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"needs a CUDA GPU, and there is none; append model\.adapter\.kind=lora"):
        quantize_layers(small_model("llama"), [], CPU, torch.bfloat16)
