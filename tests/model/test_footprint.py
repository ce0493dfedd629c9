"""Activations that are counted without memory are those of a real pass."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from tests.model.test_outline import SIZES
from tunesmith.batch.example import Example
from tunesmith.batch.packed import assemble_packed
from tunesmith.batch.padded import assemble_padded
from tunesmith.model.backbone import Backbone
from tunesmith.model.footprint import (
    ActivationBytes,
    PassBytes,
    StorageCount,
    count_activations,
    measure_passes,
    recomputed_layers,
    register_counted_attention,
)
from tunesmith.model.load import new_model
from tunesmith.model.outline import outline
from tunesmith.model.recomputation import recompute_layers
from tunesmith.model.seq2seq import Seq2SeqPolicy
from tunesmith.model.wrapper import ModelWrapper
from tunesmith.text.tokens.token_tree import TokenTree

TOKENS = 384
ARCHITECTURES = ("gpt_neox", "llama", "t5")


def tree(tokens: int) -> TokenTree:
    ids = (np.arange(tokens) % 90 + 5).astype(np.int32)
    half = tokens // 2
    spans = np.array([(half, tokens, half - 1, 1, 1)], np.int32)
    return TokenTree(ids, np.array([(0, tokens, -1)], np.int32), spans, 1)


def run_of(architecture: str, dtype: torch.dtype, device: str) -> Callable[[PreTrainedModel], Tensor]:
    if architecture == "t5":
        examples = [Example(number, tree(TOKENS // 4)) for number in range(4)]
        padded = assemble_padded(examples, "messages", start=0, padding=0).to(torch.device(device))
        return lambda model: Seq2SeqPolicy(model, compute=dtype).hidden(padded)
    packed = assemble_packed([Example(0, tree(TOKENS))], "messages").to(torch.device(device))
    return lambda model: Backbone(model, compute=dtype).hidden(packed)


def entries(architecture: str, layers: int = 6) -> dict[str, Any]:
    sizes = dict(SIZES[architecture], vocab_size=101)
    sizes["num_layers" if architecture == "t5" else "num_hidden_layers"] = layers
    return {"model_type": architecture, **sizes}


def build(architecture: str, layers: int, dtype: torch.dtype = torch.bfloat16) -> PreTrainedModel:
    attention = register_counted_attention()
    return outline(entries(architecture), dtype=dtype, layers=layers, attention=attention)


@cache
def counted(architecture: str, dtype: torch.dtype = torch.bfloat16) -> ActivationBytes:
    run = run_of(architecture, dtype, "meta")
    return count_activations(lambda layers: build(architecture, layers, dtype), run, 0.5)


def whole(architecture: str, layers: int, share: float) -> PassBytes:
    model = build(architecture, layers)
    if share:
        recompute_layers(model, share)
    ModelWrapper(model).train()
    return measure_passes(model, run_of(architecture, torch.bfloat16, "meta"))


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_models_with_few_layers_give_the_bytes_of_any_depth(architecture: str, share: float) -> None:
    found, expected = counted(architecture), whole(architecture, 6, share)
    exactly = 0.001 if architecture != "t5" else 0.01 if share in (0.0, 1.0) else 0.1  # its stacks differ
    assert found.after_forward(6, share) == pytest.approx(expected.forward, rel=exactly)
    # The position biases of T5, whose gradients all layers add up, are not in proportion to the layers.
    assert found.largest(6, share) == pytest.approx(expected.peak, rel=0.07 if architecture == "t5" else 0.001)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("architecture", ["gpt_neox", "llama"])
def test_the_bytes_are_those_of_a_real_pass_on_this_machine(architecture: str, recompute: bool) -> None:
    """In float32, with the attention of the CPU, which keeps what the counted one keeps and shares no heads."""
    sizes = entries(architecture, 4)
    sizes.pop("num_key_value_heads", None)
    model = new_model({"architecture": sizes.pop("model_type"), **sizes}, 101, 0)
    found = count_activations(
        lambda layers: outline(
            {"model_type": architecture, **sizes}, layers=layers, attention=register_counted_attention()
        ),
        run_of(architecture, torch.float32, "meta"),
        float(recompute),
    )
    if recompute:
        recompute_layers(model)
    ModelWrapper(model).train()
    real = measure_passes(model, run_of(architecture, torch.float32, "cpu"))
    assert found.after_forward(4, float(recompute)) == pytest.approx(real.forward, rel=0.02)
    assert found.largest(4, float(recompute)) == pytest.approx(real.peak, rel=0.05)


def test_storages_are_counted_until_they_are_freed() -> None:
    kept = torch.ones(10)
    with StorageCount([kept]) as count:
        kept.add_(1.0)
        first = torch.empty(100)
        second = first.view(10, 10)
        assert count.live == 400
        del first
        third = second + 1.0
        assert count.live == 800
        del second, third
        assert (count.live, count.peak) == (0, 800)


def test_a_share_of_the_layers_is_rounded_as_it_is_chosen() -> None:
    assert [recomputed_layers(6, share) for share in (0.0, 0.01, 0.5, 0.75, 1.0)] == [0, 1, 3, 4, 6]
