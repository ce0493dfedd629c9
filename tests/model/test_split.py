"""Weights in bfloat16 with a rest are exact, and stochastic rounding is right on average and a function of its keys."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.model.trees import random_tree
from tunesmith.batch.example import Example
from tunesmith.batch.packed import assemble_packed
from tunesmith.draws import rounding_keys
from tunesmith.model.load import new_model
from tunesmith.model.policy import Policy
from tunesmith.model.split import WeightStorage, join, round_stochastically, split, widen
from tunesmith.objectives.sft import SupervisedFineTuning
from tunesmith.train.optim.storage import MasterWeights, StateFormat

WORDS = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=200)


def from_words(words: list[int]) -> Tensor:
    """float32 with these bit patterns."""
    signed = [word - 2**32 if word >= 2**31 else word for word in words]
    return torch.tensor(signed, dtype=torch.int32).view(torch.float32)


def assert_exact(values: Tensor) -> None:
    halves, rests = split(values)
    again = join(halves, rests)
    numbers = ~values.isnan()
    assert torch.equal(again.view(torch.int32)[numbers], values.view(torch.int32)[numbers])
    assert torch.equal(again.isnan(), values.isnan())
    assert torch.equal(halves.isnan(), values.isnan())


@given(WORDS)
def test_any_bit_pattern_that_is_a_number_is_restored_and_nan_stays_nan(words: list[int]) -> None:
    assert_exact(from_words(words))


def test_every_upper_half_is_restored_with_rests_around_a_tie() -> None:
    upper = torch.arange(1 << 16, dtype=torch.int32) << 16
    for low in (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF):
        assert_exact((upper | low).view(torch.float32))


def test_the_half_is_the_nearest_bfloat16_except_that_ties_go_away_from_zero() -> None:
    torch.manual_seed(0)
    values = torch.randn(1 << 16) * torch.randn(1 << 16).exp()
    halves, rests = split(values)
    ties = rests == -(1 << 15)
    assert torch.equal(halves[~ties], values.bfloat16()[~ties])
    assert float((halves.float() - values).abs().sub((values.bfloat16().float() - values).abs()).abs().max()) == 0.0


def test_a_nan_of_a_gpu_does_not_become_a_number() -> None:
    values = from_words([0x7FFFFFFF, 0xFFFFFFFF, 0x7FC00000])
    assert split(values)[0].isnan().all()
    assert round_stochastically(values, (1, 2)).isnan().all()


def test_stochastic_rounding_is_right_on_average_and_goes_to_a_neighbour() -> None:
    values = torch.tensor([1.0 + share / 128 for share in (0.0, 0.1, 0.25, 0.5, 0.9)] + [-0.02003])
    rounded = round_stochastically(values.expand(20_000, -1), rounding_keys(7, 0, "w"))
    step = torch.tensor([1 / 128] * 5 + [2.0**-13])
    assert (rounded.float() - values).abs().le(step).all()
    assert torch.equal(rounded[:, 0], torch.ones(20_000, dtype=torch.bfloat16))
    assert (rounded.float().mean(0) - values).abs().div(step).max() < 0.015  # 4 standard deviations
    nearest = values.bfloat16().float()
    assert (nearest - values).abs().div(step).max() > 0.3


def test_elements_and_updates_and_tensors_have_different_bits() -> None:
    values = torch.full((1 << 16,), 1.0 + 0.5 / 128)
    one = round_stochastically(values, rounding_keys(7, 0, "w")) > 1.0
    assert abs(float(one.float().mean()) - 0.5) < 0.01
    for keys in (rounding_keys(7, 1, "w"), rounding_keys(7, 0, "v"), rounding_keys(8, 0, "w")):
        other = round_stochastically(values, keys) > 1.0
        assert abs(float((one == other).float().mean()) - 0.5) < 0.01
    assert abs(float((one[1:] == one[:-1]).float().mean()) - 0.5) < 0.01


@given(st.integers(0, 2**40), st.integers(0, 10**6), st.text(max_size=20), st.integers(0, 300))
def test_rounding_is_a_function_of_keys_and_place_alone(seed: int, update: int, tensor: str, border: int) -> None:
    values = torch.linspace(-3, 3, 300)
    keys = rounding_keys(seed, update, tensor)
    whole = round_stochastically(values, keys)
    parts = [round_stochastically(values[:border], keys), round_stochastically(values[border:], keys, border)]
    assert torch.equal(torch.cat(parts), whole)


def network() -> nn.Sequential:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    model[2].weight.requires_grad_(False)
    return model


@pytest.mark.parametrize("format", ["float32", "split", "bfloat16-stochastic"])
def test_only_trainable_weights_change_their_type_and_rests_make_them_exact(format: str) -> None:
    model, storage = network(), WeightStorage(format)  # type: ignore[arg-type]
    before = copy.deepcopy(model.state_dict())
    storage.store(model)
    for name, parameter in model.named_parameters():
        narrow = format != "float32" and parameter.requires_grad
        assert parameter.dtype == (torch.bfloat16 if narrow else torch.float32), name
        if format == "split" and narrow:
            assert torch.equal(join(parameter.detach(), storage.rests[parameter]), before[name])
    assert len(storage.rests) == (5 if format == "split" else 0)
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    widen(model)
    assert {each.dtype for each in model.parameters()} == {torch.float32}


def test_a_frozen_model_is_stored_in_the_same_format_without_rests() -> None:
    for format, dtype in (("float32", torch.float32), ("split", torch.bfloat16)):
        model, storage = network().requires_grad_(False), WeightStorage(format)  # type: ignore[arg-type]
        storage.store_frozen(model)
        assert {each.dtype for each in model.parameters()} == {dtype}
        assert not storage.rests


TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
FAMILIES = {
    "tied": {"architecture": "llama", "tie_word_embeddings": True},
    "bias of the head": {"architecture": "phi"},
    "soft cap": {"architecture": "gemma2", "num_key_value_heads": 2, "head_dim": 8},
    "factor of the logits": {"architecture": "cohere", "num_key_value_heads": 2},
    "experts": {"architecture": "mixtral", "num_key_value_heads": 2},
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("keys", [{}, {"z_loss": 1e-3, "label_smoothing": 0.1}])
def test_gradients_of_split_weights_are_those_of_float32_weights_up_to_rounding(
    family: str, keys: dict[str, float]
) -> None:
    """The same forward pass in bfloat16; autocast casts float32 weights, split weights need no cast."""
    batch = assemble_packed([Example(number, random_tree(number)) for number in (1, 2)], "threads")
    objective, found = SupervisedFineTuning(**keys), []
    for format in ("float32", "split"):
        model = new_model({**TINY, **FAMILIES[family]}, 211, 0)
        storage = WeightStorage(format)  # type: ignore[arg-type]
        policy = Policy(model, compute=torch.bfloat16)
        storage.store(model)
        MasterWeights(policy.parameters(), StateFormat(rests=storage.rests))
        policy.train()
        objective(policy, batch, objective.units(batch)).loss.backward()  # type: ignore[no-untyped-call]
        gradients = [each.grad for each in policy.parameters().values() if each.grad is not None]
        assert {gradient.dtype for gradient in gradients} == {torch.float32}
        found.append(torch.cat([gradient.flatten() for gradient in gradients]))
    assert float((found[0] - found[1]).norm() / found[0].norm()) < 0.02
