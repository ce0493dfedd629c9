"""Optimizers compute the same whatever they store, and store as many bytes as the recipe asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import Parameter

from tests.train.optim.states import restore_state
from tunesmith.model.split import WeightFormat, WeightStorage, join
from tunesmith.train.optim import storage as module
from tunesmith.train.optim.adafactor import Adafactor
from tunesmith.train.optim.muon import Muon
from tunesmith.train.optim.optimizers import AdamW, Optimizer, clip_coefficient, gradient_norm
from tunesmith.train.optim.storage import (
    BLOCK,
    EightBitMoment,
    MasterWeights,
    Moment,
    StateFormat,
    compress,
    expand,
)

FORMATS: tuple[WeightFormat, ...] = ("float32", "split", "bfloat16-stochastic")
BFLOAT16 = ("split", "bfloat16-stochastic")
Build = Callable[[Mapping[str, Parameter], StateFormat], Optimizer]


def adamw(parameters: Mapping[str, Parameter], storage: StateFormat) -> Optimizer:
    return AdamW(parameters, betas=(0.9, 0.95), weight_decay=0.1, storage=storage)


def muon(parameters: Mapping[str, Parameter], storage: StateFormat) -> Optimizer:
    return Muon(parameters, {"up.weight"}, learning_rate=0.01, adamw_learning_rate=0.01, storage=storage)


def adafactor(parameters: Mapping[str, Parameter], storage: StateFormat) -> Optimizer:
    return Adafactor(parameters, min_dim_size_to_factor=8, weight_decay=0.01, beta1=0.9, storage=storage)


OPTIMIZERS: Mapping[str, Build] = {"adamw": adamw, "muon": muon, "adafactor": adafactor}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(24, 40), nn.Linear(40, 7)


class Training:
    """A network whose gradients are functions of the step alone, so that only the update can differ."""

    def __init__(self, optimizer: str, weights: WeightFormat, seed: int = 5, **keys: object) -> None:
        torch.manual_seed(0)
        self.net, stored = Net(), WeightStorage(weights)
        stored.store(self.net)
        self.parameters = dict(self.net.named_parameters())
        rounding = seed if weights == "bfloat16-stochastic" else None
        self.storage = StateFormat(rests=stored.rests, rounding_seed=rounding, **keys)  # type: ignore[arg-type]
        self.optimizer = OPTIMIZERS[optimizer](self.parameters, self.storage)

    def advance(self, steps: range) -> Training:
        for step in steps:
            draw = torch.Generator().manual_seed(step)
            for parameter in self.parameters.values():
                gradient = torch.randn(parameter.shape, generator=draw).bfloat16()
                parameter.grad = gradient.to(parameter.grad_dtype)
            _, scale = clip_coefficient(self.parameters, 1.0, step)
            self.optimizer.step(1e-3 / (1 + step), scale)
            self.optimizer.zero_grad()
        return self

    def exact(self) -> dict[str, Tensor]:
        state = self.optimizer.state_dict()
        return {
            name: join(each.detach(), state[f"{name}.rest"]) if f"{name}.rest" in state else each.detach().float()
            for name, each in self.parameters.items()
        }

    def bits(self) -> dict[str, Tensor]:
        found = {**self.optimizer.state_dict(), **{name: each.detach() for name, each in self.parameters.items()}}
        return {name: tensor.clone() for name, tensor in found.items()}


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_split_weights_are_updated_as_float32_weights_to_the_bit(optimizer: str) -> None:
    one, other = (Training(optimizer, weights).advance(range(6)) for weights in ("float32", "split"))
    assert same(one.exact(), other.exact())
    assert {each.dtype for each in other.parameters.values()} == {torch.bfloat16}
    moments = {name: tensor for name, tensor in other.bits().items() if not name.endswith(".rest")}
    assert all(torch.equal(moments[name], tensor) for name, tensor in one.bits().items() if name not in one.parameters)


def test_a_lost_rest_is_seen() -> None:
    one, other = Training("adamw", "float32").advance(range(3)), Training("adamw", "split").advance(range(2))
    for name, rest in other.optimizer.state_dict().items():
        if name.endswith(".rest"):
            rest.zero_()
    assert not same(one.exact(), other.advance(range(2, 3)).exact())


@pytest.mark.parametrize("weights", FORMATS)
@pytest.mark.parametrize("moments", ["float32", "8bit"])
def test_offloading_and_parts_change_no_bit(
    weights: WeightFormat, moments: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = Training("adamw", weights, moments=moments, offload=True).advance(range(4)).bits()
    assert same(Training("adamw", weights, moments=moments).advance(range(4)).bits(), expected)
    monkeypatch.setattr(module, "PART", 2 * BLOCK)
    assert len(module.parts_of(torch.empty(24, 40))) == 4
    assert same(Training("adamw", weights, moments=moments, offload=True).advance(range(4)).bits(), expected)


COMBINATIONS = [
    (optimizer, weights, gradients, moments, offload)
    for optimizer, weights, gradients, moments, offload in product(
        OPTIMIZERS, FORMATS, (torch.float32, torch.bfloat16), ("float32", "8bit"), (False, True)
    )
    if (weights in BFLOAT16 or gradients == torch.float32)
    and (optimizer != "adafactor" or (moments == "float32" and not offload))
]


@pytest.mark.parametrize(("optimizer", "weights", "gradients", "moments", "offload"), COMBINATIONS)
def test_stopped_and_resumed_is_never_stopped(
    optimizer: str, weights: WeightFormat, gradients: torch.dtype, moments: str, offload: bool
) -> None:
    keys = {"gradients": gradients, "moments": moments, "offload": offload}
    whole = Training(optimizer, weights, **keys).advance(range(5)).bits()
    saved = Training(optimizer, weights, **keys).advance(range(3)).bits()
    again = Training(optimizer, weights, **keys)
    for name, parameter in again.parameters.items():
        parameter.data.copy_(saved.pop(name))
    restore_state(again.optimizer, saved)
    assert same(again.advance(range(3, 5)).bits(), whole)


BYTES = {
    ("float32", torch.float32, "float32"): 16.0,
    ("split", torch.float32, "float32"): 16.0,
    ("split", torch.bfloat16, "float32"): 14.0,
    ("split", torch.float32, "8bit"): 10.0,
    ("float32", torch.float32, "8bit"): 10.0,
    ("split", torch.bfloat16, "8bit"): 8.0,
    ("bfloat16-stochastic", torch.bfloat16, "float32"): 12.0,
    ("bfloat16-stochastic", torch.bfloat16, "8bit"): 6.0,
}
SCALES = 2 * 4 / BLOCK
"""Bytes an element of the scales of both moments."""


@pytest.mark.parametrize(("weights", "gradients", "moments"), BYTES)
def test_bytes_a_parameter(weights: WeightFormat, gradients: torch.dtype, moments: str) -> None:
    layer, stored = nn.Linear(256, 512, bias=False), WeightStorage(weights)
    stored.store(layer)
    keys = {"rounding_seed": 1} if weights == "bfloat16-stochastic" else {"rests": stored.rests}
    storage = StateFormat(gradients=gradients, moments=moments, **keys)  # type: ignore[arg-type]
    optimizer = AdamW(dict(layer.named_parameters()), storage=storage)
    layer(torch.ones(1, 256, dtype=layer.weight.dtype)).sum().backward()
    assert layer.weight.grad is not None
    optimizer.step(1e-3)
    kept = [layer.weight, layer.weight.grad, *optimizer.state_dict().values()]
    total = sum(tensor.numel() * tensor.element_size() for tensor in kept if tensor.numel() > 1)
    scales = SCALES if moments == "8bit" else 0.0
    assert total / layer.weight.numel() == BYTES[weights, gradients, moments] + scales


def test_gradients_of_bfloat16_weights_are_added_up_in_the_type_that_is_asked_for() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        parameter = Parameter(torch.ones(3, dtype=torch.bfloat16))
        MasterWeights({"w": parameter}, StateFormat(gradients=dtype))
        for share in (1.0, 2.0**-9, 2.0**-9):
            (parameter * share).sum().backward()
        assert parameter.grad is not None
        assert parameter.grad.dtype == dtype
        assert (float(parameter.grad[0]) == 1.0 + 2.0**-8) == (dtype == torch.float32)


def test_the_norm_of_bfloat16_gradients_is_computed_in_float32() -> None:
    parameter = Parameter(torch.zeros(1000, dtype=torch.bfloat16))
    parameter.grad = torch.full((1000,), 0.3, dtype=torch.bfloat16)
    assert float(gradient_norm({"w": parameter})) == pytest.approx(float(parameter.grad.double().norm()), rel=1e-6)


def test_random_roundings_depend_on_seed_step_and_name() -> None:
    first, second, other = (Training("adamw", "bfloat16-stochastic", seed).advance(range(3)) for seed in (5, 5, 6))
    assert same(first.bits(), second.bits())
    assert not same(first.exact(), other.exact())


def test_a_weight_that_is_rounded_at_random_follows_updates_far_below_its_step() -> None:
    """Rounding to the nearest bfloat16 would leave it where it is."""
    parameter = Parameter(torch.full((4096,), 0.02).bfloat16())
    start, step = float(parameter[0]), 2.0**-13
    optimizer = AdamW({"w": parameter}, storage=StateFormat(rounding_seed=1))
    for _ in range(20):
        parameter.grad = torch.ones_like(parameter, dtype=torch.float32)
        optimizer.step(step / 100)
    assert float(parameter.detach().float().mean()) == pytest.approx(start - 20 * step / 100, abs=step / 50)
    assert len(parameter.detach().unique()) > 1


NUMBERS = st.lists(st.floats(-(2.0**60), 2.0**60, width=32, allow_subnormal=False), min_size=1, max_size=300)


@given(NUMBERS, st.booleans())
def test_8_bits_keep_the_largest_element_of_a_block_and_the_size_of_the_others(
    numbers: list[float], signed: bool
) -> None:
    values = torch.tensor(numbers, dtype=torch.float32)
    values = values if signed else values.abs()
    codes, scales = compress(values[None], signed=signed)
    found = expand(codes, scales, signed=signed)[0]
    largest = scales[0].repeat_interleave(BLOCK)[: len(values)].double()
    assert torch.equal(found[values.abs() == largest], values[values.abs() == largest])
    # A code is half a step away on its root, and a whole step where it may not become 0.
    power, error = (2, 0.5 / 127) if signed else (4, 1 / 255)
    roots = (values.abs() / largest.clamp_min(1e-38)) ** (1 / power)
    allowed = largest * ((roots + error) ** power - roots**power) + 1e-30
    assert ((found.double() - values).abs() <= allowed * 1.001).all()


def test_a_second_moment_above_zero_stays_above_zero_so_that_no_update_explodes() -> None:
    values = torch.tensor([1.0, 1e-11, 1e-13, 0.0])
    codes, scales = compress(values[None], signed=False)
    assert codes[0].tolist() == [255, 1, 1, 0]
    assert expand(codes, scales, signed=False)[0, 1:].tolist() == pytest.approx([255.0**-4, 255.0**-4, 0.0])


def test_moments_in_8_bits_read_what_they_wrote_in_any_parts() -> None:
    parameter = Parameter(torch.zeros(5, 200))
    moment: Moment = EightBitMoment(parameter, offload=False, signed=True)
    torch.manual_seed(0)
    values = torch.randn(5, 200)
    moment.write(values)
    whole = moment.read()
    assert whole.shape == values.shape
    assert whole.is_contiguous(), "the kernel of AdamW ignores strides"
    assert torch.allclose(whole, values, atol=0.05)
    for part in (slice(0, 2), slice(2, 5)):
        moment.write(values[part], part)
        assert torch.equal(moment.read(part), whole[part])


def test_numbers_that_are_not_finite_are_still_seen_in_8_bits() -> None:
    for bad in (float("nan"), float("inf")):
        values = torch.ones(200)
        values[150] = bad
        assert not compress(values[None], signed=True)[1].isfinite().all()


@pytest.mark.parametrize("weights", FORMATS)
def test_moments_in_8_bits_train_like_float32_moments(weights: WeightFormat) -> None:
    """A regression whose loss falls by orders of magnitude: the loss with 8-bit moments is that of float32."""
    losses = {}
    for moments in ("float32", "8bit"):
        torch.manual_seed(3)
        inputs, model, stored = torch.randn(64, 32), nn.Linear(32, 32), WeightStorage(weights)
        wanted = inputs @ torch.randn(32, 32)
        stored.store(model)
        seed = 1 if weights == "bfloat16-stochastic" else None
        storage = StateFormat(moments=moments, rests=stored.rests, rounding_seed=seed)  # type: ignore[arg-type]
        optimizer = AdamW(dict(model.named_parameters()), storage=storage)
        start = None
        for _ in range(150):
            loss = (nn.functional.linear(inputs, model.weight.float(), model.bias.float()) - wanted).square().mean()
            start = start or float(loss.detach())
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step(0.03)
            optimizer.zero_grad()
        losses[moments] = float(loss.detach()) / start
    assert losses["float32"] < 0.25
    assert losses["8bit"] == pytest.approx(losses["float32"], abs=0.01)
