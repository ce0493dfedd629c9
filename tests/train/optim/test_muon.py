"""Muon: its update is orthogonal, equals the published formula, and takes only what is a hidden matrix."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from tunesmith.errors import RecipeError
from tunesmith.train.optim import muon as module
from tunesmith.train.optim.muon import Muon, orthogonalise


def reference_newton_schulz(gradient: Tensor, iterations: int = 5) -> Tensor:
    """The iteration in float64 through a singular value decomposition: the polynomial acts on the values alone."""
    left, values, right = torch.linalg.svd(gradient.double(), full_matrices=False)
    values = values / values.norm()
    for _ in range(iterations):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    return (left * values) @ right


@pytest.mark.parametrize("shape", [(8, 8), (8, 32), (32, 8), (1, 5), (64, 48)])
def test_the_iteration_acts_on_the_singular_values_alone(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(3, *shape)
    result = orthogonalise(matrices)
    for given, found in zip(matrices, result, strict=True):
        torch.testing.assert_close(found.double(), reference_newton_schulz(given), rtol=0, atol=2e-5)


@pytest.mark.parametrize("shape", [(8, 64), (64, 8), (32, 96)])
def test_the_result_is_nearly_orthogonal(shape: tuple[int, int]) -> None:
    torch.manual_seed(1)
    values = torch.linalg.svdvals(orthogonalise(torch.randn(4, *shape)))
    assert values.min() > 0.65
    assert values.max() < 1.25


def test_a_matrix_of_zeros_stays_zero() -> None:
    assert not orthogonalise(torch.zeros(2, 3, 4)).any()


@pytest.mark.parametrize("size", [1e-30, 1e-15, 1.0, 1e15])
def test_the_size_of_the_gradient_does_not_matter(size: float) -> None:
    torch.manual_seed(2)
    matrices = torch.randn(2, 16, 24)
    scaled = orthogonalise(matrices * size)
    if size < 1e-20:  # its square underflows in float32; the result only has to stay small
        assert scaled.abs().max() < 1e-3
    else:
        torch.testing.assert_close(scaled, orthogonalise(matrices), rtol=1e-3, atol=1e-3)


def parameters(*shapes: tuple[int, int]) -> dict[str, Parameter]:
    torch.manual_seed(3)
    return {f"w{index}": Parameter(torch.randn(shape)) for index, shape in enumerate(shapes)}


def expected_run(start: Tensor, gradients: list[Tensor], rate: float, decay: float, momentum: float) -> Tensor:
    weight, average = start.double(), torch.zeros_like(start, dtype=torch.float64)
    for gradient in gradients:
        average = momentum * average + (1 - momentum) * gradient.double()
        update = reference_newton_schulz((1 - momentum) * gradient.double() + momentum * average)
        weight = (1 - rate * decay) * weight - 0.2 * math.sqrt(max(start.shape)) * rate * update
    return weight


@pytest.mark.parametrize("batch", [1, 1 << 24])
def test_three_steps_follow_the_formula_whatever_shares_a_batch(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", batch)
    shapes = [(6, 6), (6, 18), (18, 6), (6, 6), (18, 6)]
    named = parameters(*shapes)
    start = {name: each.detach().clone() for name, each in named.items()}
    gradients = {name: [torch.randn_like(each) for _ in range(3)] for name, each in start.items()}
    optimizer = Muon(named, set(named), learning_rate=0.1, adamw_learning_rate=0.1, weight_decay=0.2)
    for step in range(3):
        for name, each in named.items():
            each.grad = gradients[name][step].clone()
        optimizer.step(0.1)
    for name, each in named.items():
        expected = expected_run(start[name], gradients[name], 0.1, 0.2, 0.95)
        torch.testing.assert_close(each.detach().double(), expected, rtol=0, atol=1e-4, msg=name)


def test_it_agrees_with_torchs_muon_within_bfloat16() -> None:
    ours, theirs = parameters((16, 16), (16, 48)), parameters((16, 16), (16, 48))
    optimizer = Muon(ours, set(ours), learning_rate=0.1, adamw_learning_rate=0.1, weight_decay=0.1)
    reference = torch.optim.Muon(theirs.values(), lr=0.1, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        for name in ours:
            gradient = torch.randn_like(ours[name])
            ours[name].grad, theirs[name].grad = gradient.clone(), gradient.clone()
        optimizer.step(0.1)
        reference.step()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=0.02)


def test_an_update_is_about_as_large_as_one_of_adamw() -> None:
    named = parameters((32, 128))
    before = named["w0"].detach().clone()
    named["w0"].grad = torch.randn(32, 128)
    Muon(named, {"w0"}, learning_rate=1.0, adamw_learning_rate=1.0).step(1.0)
    assert 0.12 < (named["w0"] - before).pow(2).mean().sqrt() < 0.3


def test_adamw_follows_the_schedule_scaled_to_its_own_peak() -> None:
    named = parameters((4, 4)) | {"bias": Parameter(torch.zeros(4))}
    optimizer = Muon(named, {"w0"}, learning_rate=0.02, adamw_learning_rate=0.003)
    named["bias"].grad = torch.ones(4)
    optimizer.step(0.01)  # half of the peak of the schedule
    torch.testing.assert_close(named["bias"].detach(), torch.full((4,), -0.0015))


def test_nothing_to_orthogonalise_is_an_error_of_the_recipe() -> None:
    named = {"bias": Parameter(torch.zeros(4))}
    with pytest.raises(RecipeError, match="no hidden matrix"):
        Muon(named, set(), learning_rate=1.0, adamw_learning_rate=1.0)
    with pytest.raises(RecipeError, match="'bias' is not a matrix"):
        Muon(named, {"bias"}, learning_rate=1.0, adamw_learning_rate=1.0)


def test_a_rate_that_is_no_float32_gives_weights_that_are_not_finite_or_huge_and_no_error() -> None:
    named = parameters((4096, 8))
    named["w0"].grad = torch.randn(4096, 8)
    Muon(named, {"w0"}, learning_rate=3e38, adamw_learning_rate=1.0).step(3e38)
    assert named["w0"].detach().abs().max() > 1e35
