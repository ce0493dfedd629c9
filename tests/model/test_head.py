"""The chunked head against torch's own log-softmax, and its hint."""

from __future__ import annotations

import pytest
import torch

from tunesmith.model import head
from tunesmith.model.head import target_log_probabilities


def inputs(bias: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(53, 16, generator=draw).requires_grad_()
    weight = torch.randn(97, 16, generator=draw).requires_grad_()
    shift = torch.randn(97, generator=draw).requires_grad_() if bias else None
    target = torch.randint(0, 97, (53,), generator=draw)
    return hidden, weight, shift, target, torch.randn(53, generator=draw)


@pytest.mark.parametrize("hint", ["none", "right", "wrong"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("budget", [97 * 16, 97 * 20, 8_000_000])
def test_values_and_gradients_are_those_of_log_softmax_whatever_the_hint(
    bias: bool, budget: int, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head, "_chunk_rows", lambda vocabulary: max(16, budget // vocabulary))
    hidden, weight, shift, target, coefficients = inputs(bias)
    leaves = [leaf for leaf in (hidden, weight, shift) if leaf is not None]
    expected = {"none": None, "right": coefficients, "wrong": coefficients + 1.0}[hint]
    found, correct = target_log_probabilities(hidden, weight, shift, target, expected)
    ours = torch.autograd.grad((found * coefficients).sum(), leaves)
    logits = hidden @ weight.t() + (0.0 if shift is None else shift)
    table = torch.log_softmax(logits, dim=-1).gather(1, target[:, None])[:, 0]
    theirs = torch.autograd.grad((table * coefficients).sum(), leaves)
    assert torch.allclose(found, table, atol=1e-5)
    assert torch.equal(correct, logits.argmax(-1) == target)
    for our, their in zip(ours, theirs, strict=True):
        assert torch.allclose(our, their, atol=1e-4)


def test_a_hopeless_token_has_a_finite_log_probability() -> None:
    hidden, weight = torch.tensor([[300.0, -300.0]]), torch.eye(2)
    found, correct = target_log_probabilities(hidden, weight, None, torch.tensor([1]))
    assert found.item() == pytest.approx(-600.0)
    assert not correct.item()


def test_16_bit_products_keep_gradients_of_the_parameter_in_float32() -> None:
    hidden, weight, _, target, coefficients = inputs(False)
    for expected in (None, coefficients):
        found, _ = target_log_probabilities(hidden.bfloat16(), weight, None, target, expected)
        gradient = torch.autograd.grad((found * coefficients).sum(), weight)[0]
        reference, _ = target_log_probabilities(hidden, weight, None, target)
        exact = torch.autograd.grad((reference * coefficients).sum(), weight)[0]
        assert gradient.dtype == torch.float32
        assert (gradient - exact).norm() / exact.norm() < 0.02


def test_a_second_gradient_of_another_kind_is_computed_anew() -> None:
    hidden, weight, _, target, coefficients = inputs(False)
    found, _ = target_log_probabilities(hidden, weight, None, target, coefficients)
    first = torch.autograd.grad((found * coefficients).sum(), weight, retain_graph=True)[0]
    second = torch.autograd.grad((found * coefficients).sum(), weight)[0]
    assert torch.allclose(first, second, atol=1e-5)
