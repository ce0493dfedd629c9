"""AdamW is torch's to the last digit that matters, its state survives a checkpoint, and clipping guards the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.nn import Parameter

from tests.train.optim.states import restore_state
from tunesmith.errors import InternalError
from tunesmith.train.optim.muon import Muon
from tunesmith.train.optim.optimizers import (
    AdamW,
    Optimizer,
    check_finite,
    clip_coefficient,
    gradient_norm,
    trainable_parameters,
)


class Network(nn.Module):
    """An embedding, two hidden layers, a norm and a head, in the order of a language model."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 6)
        self.up = nn.Linear(6, 24)
        self.down = nn.Linear(24, 6, bias=False)
        self.norm = nn.LayerNorm(6)
        self.head = nn.Linear(6, 11, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        hidden = self.embedding(ids)
        return self.head(self.norm(hidden + self.down(torch.tanh(self.up(hidden)))))


def network(seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return Network()


def fill_gradients(model: Network, step: int) -> None:
    ids = torch.randint(0, 11, (32,), generator=torch.Generator().manual_seed(step))
    nn.functional.cross_entropy(model(ids[:-1]), ids[1:]).backward()


def adamw(model: Network) -> Optimizer:
    return AdamW(dict(model.named_parameters()), betas=(0.9, 0.95), weight_decay=0.1)


def muon(model: Network) -> Optimizer:
    hidden = {"up.weight", "down.weight"}
    return Muon(dict(model.named_parameters()), hidden, learning_rate=1e-2, adamw_learning_rate=1e-3, weight_decay=0.1)


def train(model: Network, optimizer: Optimizer, steps: range) -> None:
    for step in steps:
        fill_gradients(model, step)
        _, scale = clip_coefficient(dict(model.named_parameters()), 1.0, step)
        optimizer.step(1e-2 / (1 + step), scale)
        optimizer.zero_grad()


def same_bits(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adamw_equals_torchs_own(weight_decay: float) -> None:
    ours, theirs = network(), network()
    optimizer = AdamW(dict(ours.named_parameters()), betas=(0.8, 0.95), epsilon=1e-7, weight_decay=weight_decay)
    matrices = [each for each in theirs.parameters() if each.ndim >= 2]
    vectors = [each for each in theirs.parameters() if each.ndim < 2]
    reference = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}],
        betas=(0.8, 0.95),
        eps=1e-7,
        foreach=False,
    )
    for step in range(20):
        for model in (ours, theirs):
            fill_gradients(model, step)
        for group in reference.param_groups:
            group["lr"] = 1e-2 / (1 + step)
        optimizer.step(1e-2 / (1 + step))
        reference.step()
        optimizer.zero_grad()
        reference.zero_grad()
    for (name, left), right in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-6, atol=1e-7, msg=name)


def test_biases_and_norms_have_no_weight_decay() -> None:
    model = network()
    before = {name: each.detach().clone() for name, each in model.named_parameters()}
    optimizer = AdamW(dict(model.named_parameters()), weight_decay=0.5)
    for each in model.parameters():
        each.grad = torch.zeros_like(each)
    optimizer.step(0.1)
    for name, each in model.named_parameters():
        expected = before[name] if each.ndim < 2 else before[name] * 0.95
        torch.testing.assert_close(each.detach(), expected, msg=name)


@pytest.mark.parametrize("build", [adamw, muon])
@pytest.mark.parametrize("stop", [0, 1, 5])
def test_a_run_that_reloads_its_state_continues_bit_for_bit(build: Callable[[Network], Optimizer], stop: int) -> None:
    whole, first, second = network(), network(), network(1)
    uninterrupted = build(whole)
    train(whole, uninterrupted, range(8))

    interrupted = build(first)
    train(first, interrupted, range(stop))
    saved = {name: tensor.clone() for name, tensor in interrupted.state_dict().items()}
    second.load_state_dict(first.state_dict())
    resumed = build(second)
    restore_state(resumed, saved)
    assert same_bits(resumed.state_dict(), saved)
    train(second, resumed, range(stop, 8))

    assert same_bits(second.state_dict(), whole.state_dict())
    assert same_bits(resumed.state_dict(), uninterrupted.state_dict())


@pytest.mark.parametrize("build", [adamw, muon])
def test_a_step_with_a_lost_moment_fails_the_resume_test(build: Callable[[Network], Optimizer]) -> None:
    whole, other = network(), network()
    optimizer = build(whole)
    train(whole, optimizer, range(3))
    other.load_state_dict(whole.state_dict())
    forgetful = build(other)  # the planted fault: a fresh state instead of the saved one
    train(whole, optimizer, range(3, 5))
    train(other, forgetful, range(3, 5))
    assert not same_bits(other.state_dict(), whole.state_dict())


def test_tied_parameters_are_updated_and_stored_once() -> None:
    model = network()
    model.head.weight = model.embedding.weight
    named = dict(model.named_parameters(remove_duplicate=False))
    assert "head.weight" in named
    assert "head.weight" not in trainable_parameters(named)
    optimizer = AdamW(named)
    assert "head.weight.exp_avg" not in optimizer.state_dict()
    before = model.head.weight.detach().clone()
    model.head.weight.grad = torch.ones_like(model.head.weight)
    optimizer.step(0.1)
    torch.testing.assert_close(model.head.weight.detach(), before - 0.1)


def test_frozen_parameters_have_no_state_and_stay() -> None:
    model = network()
    model.embedding.weight.requires_grad_(False)
    before = model.embedding.weight.clone()
    optimizer = adamw(model)
    train(model, optimizer, range(2))
    assert torch.equal(model.embedding.weight, before)
    assert not any(name.startswith("embedding") for name in optimizer.state_dict())


def test_a_parameter_without_a_gradient_keeps_its_state() -> None:
    model = network()
    optimizer = adamw(model)
    for name, each in model.named_parameters():
        each.grad = None if name == "up.weight" else torch.ones_like(each)
    before = model.up.weight.detach().clone()
    optimizer.step(0.1)
    assert torch.equal(model.up.weight.detach(), before)
    assert optimizer.state_dict()["up.weight.step"] == 0
    assert optimizer.state_dict()["up.bias.step"] == 1


@pytest.mark.parametrize("shape", [(), (1,), (2000, 3), (700, 3000)])
def test_the_norm_of_many_elements_is_exact(shape: tuple[int, ...]) -> None:
    parameter = torch.nn.Parameter(torch.zeros(shape))
    parameter.grad = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    expected = torch.linalg.vector_norm(parameter.grad, dtype=torch.float64)
    assert float(gradient_norm({"w": parameter})) == pytest.approx(float(expected), rel=1e-6)


def test_zero_grad_drops_every_gradient() -> None:
    for build in (adamw, muon):
        model = network()
        optimizer = build(model)
        fill_gradients(model, 0)
        optimizer.zero_grad()
        assert all(each.grad is None for each in model.parameters())


def test_a_gradient_in_another_memory_layout_is_not_misread() -> None:
    parameter = Parameter(torch.zeros(3, 3))
    parameter.grad = torch.arange(9.0).reshape(3, 3).T
    with pytest.raises(AssertionError):
        AdamW({"w": parameter}).step(0.1)


@pytest.mark.parametrize("make", [adamw, muon])
@pytest.mark.parametrize("limit", [0.01, 1.0, 100.0])
def test_clipping_equals_torchs(limit: float, make: Callable[[Network], Optimizer]) -> None:
    ours, theirs = network(), network()
    for model in (ours, theirs):
        fill_gradients(model, 0)
    norm, scale = clip_coefficient(dict(ours.named_parameters()), limit, 0)
    make(ours).step(1e-2, scale)
    expected = nn.utils.clip_grad_norm_(theirs.parameters(), limit)
    make(theirs).step(1e-2)
    assert norm == pytest.approx(float(expected), rel=1e-6)
    for left, right in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(left, right)


def test_below_the_limit_or_without_one_nothing_is_scaled() -> None:
    for limit in (None, 0.0, 1e6):
        model = network()
        fill_gradients(model, 0)
        assert clip_coefficient(dict(model.named_parameters()), limit, 0)[1] == 1.0


def test_a_norm_over_all_processes_decides_about_the_scale() -> None:
    parameter = Parameter(torch.zeros(1))
    parameter.grad = torch.tensor([3.0])
    norm, scale = clip_coefficient({"w": parameter}, 1.0, 0, norm=torch.tensor(6.0))
    assert norm == 6.0
    assert scale == pytest.approx(1 / 6)


def test_tied_gradients_count_once_in_the_norm() -> None:
    parameter = Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([3.0, 4.0])
    assert gradient_norm({"a": parameter, "b": parameter}) == 5.0
    assert gradient_norm({"a": Parameter(torch.zeros(2))}) == 0.0


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("place", ["embedding.weight", "up.bias", "head.weight"])
@pytest.mark.parametrize("limit", [None, 1.0])
def test_a_gradient_that_is_not_finite_stops_the_step_and_names_it(bad: float, place: str, limit: float | None) -> None:
    model = network()
    fill_gradients(model, 0)
    gradient = dict(model.named_parameters())[place].grad
    assert gradient is not None
    gradient.view(-1)[-1] = bad
    with pytest.raises(InternalError, match=rf"{place}: the gradient norm is (nan|inf) at step 17"):
        clip_coefficient(dict(model.named_parameters()), limit, 17)
    finite = [each for name, each in model.named_parameters() if name != place]
    assert all(each.grad is not None and bool(torch.isfinite(each.grad).all()) for each in finite)


def test_a_norm_of_finite_gradients_that_overflows_names_the_largest() -> None:
    model = network()
    fill_gradients(model, 0)
    gradient = dict(model.named_parameters())["up.bias"].grad
    assert gradient is not None
    gradient.view(-1)[0] = -3e38
    with pytest.raises(InternalError, match=r"up\.bias: the gradient norm is inf at step 17"):
        clip_coefficient(dict(model.named_parameters()), None, 17)


def test_check_finite_passes_numbers_and_names_what_is_not_finite() -> None:
    check_finite("the loss", 2.5, 3)
    check_finite("the loss", torch.tensor(2.5), 3)
    with pytest.raises(InternalError, match="the loss is nan at step 3") as caught:
        check_finite("the loss", torch.tensor(float("nan")), 3)
    assert caught.value.exit_code == 70
