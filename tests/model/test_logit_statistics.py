"""Log-probabilities with logit statistics against torch's own functions, and against the head of every other loss."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tunesmith.model import logit_statistics
from tunesmith.model.head import target_log_probabilities
from tunesmith.model.logit_statistics import target_statistics


def inputs(bias: bool) -> tuple[Tensor, Tensor, Tensor | None, Tensor, list[Tensor]]:
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(53, 16, generator=draw).requires_grad_()
    weight = torch.randn(97, 16, generator=draw).requires_grad_()
    shift = torch.randn(97, generator=draw).requires_grad_() if bias else None
    target = torch.randint(0, 97, (53,), generator=draw)
    return hidden, weight, shift, target, [torch.randn(53, generator=draw) for _ in range(3)]


@pytest.mark.parametrize("hint", ["none", "right", "wrong"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("chunk", [97, 97 * 20, 8_000_000])
def test_values_and_gradients_are_torchs_own_whatever_the_hint(
    bias: bool, chunk: int, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logit_statistics, "CHUNK", chunk)
    hidden, weight, shift, target, coefficients = inputs(bias)
    off = 1.0 if hint == "wrong" else 0.0

    def statistics_gradient(logsumexp: Tensor, part: slice, vocabulary: int) -> tuple[Tensor, Tensor, Tensor]:
        own, of_logsumexp, total = (each[part] for each in coefficients)
        return own + off, of_logsumexp, total

    leaves = [leaf for leaf in (hidden, weight, shift) if leaf is not None]
    found = target_statistics(hidden, weight, shift, target, None if hint == "none" else statistics_gradient)
    assert found.statistics is not None
    logits = hidden @ weight.t() + (0.0 if shift is None else shift)
    expected = (
        torch.log_softmax(logits, dim=-1).gather(1, target[:, None])[:, 0],
        torch.logsumexp(logits, dim=-1),
        logits.sum(dim=-1),
    )
    ours = (found.log_probability, found.statistics.logsumexp, found.statistics.total)
    losses = [sum((c * value).sum() for c, value in zip(coefficients, each, strict=True)) for each in (ours, expected)]
    for our, their in zip(ours, expected, strict=True):
        assert torch.allclose(our, their, atol=1e-4)
    gradients = [torch.autograd.grad(loss, leaves) for loss in losses]  # type: ignore[arg-type]
    for our, their in zip(*gradients, strict=True):
        assert torch.allclose(our, their, atol=1e-4)
    assert found.statistics.vocabulary == 97


def test_log_probabilities_and_hits_are_those_of_the_plain_head() -> None:
    hidden, weight, _, target, _ = inputs(False)
    found = target_statistics(hidden, weight, None, target)
    plain, correct = target_log_probabilities(hidden, weight, None, target)
    torch.testing.assert_close(found.log_probability, plain)
    assert torch.equal(found.correct, correct)


def test_16_bit_products_keep_gradients_of_the_parameter_in_float32() -> None:
    hidden, weight, _, target, (first, second, _) = inputs(False)

    def gradient(states: Tensor) -> Tensor:
        found = target_statistics(states, weight, None, target)
        assert found.statistics is not None
        loss = (first * found.log_probability + second * found.statistics.logsumexp).sum()
        return torch.autograd.grad(loss, weight)[0]

    rough, exact = gradient(hidden.bfloat16()), gradient(hidden)
    assert rough.dtype == torch.float32
    assert (rough - exact).norm() / exact.norm() < 0.02


def test_no_targets_are_no_error() -> None:
    found = target_statistics(torch.zeros(0, 4), torch.zeros(9, 4), None, torch.zeros(0, dtype=torch.int64))
    assert found.log_probability.shape == (0,)


def test_capped_logits_give_the_values_and_gradients_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logit_statistics, "CHUNK", 97 * 20)
    hidden, weight, shift, target, coefficients = inputs(True)
    assert shift is not None
    found = target_statistics(hidden, weight, shift, target, cap=3.0)
    assert found.statistics is not None
    logits = 3.0 * torch.tanh((hidden @ weight.t() + shift) / 3.0)
    table = torch.log_softmax(logits, dim=-1).gather(1, target[:, None])[:, 0]
    ours = (found.log_probability, found.statistics.logsumexp, found.statistics.total)
    expected = (table, torch.logsumexp(logits, dim=-1), logits.sum(dim=-1))
    losses = [sum((c * value).sum() for c, value in zip(coefficients, each, strict=True)) for each in (ours, expected)]
    gradients = [torch.autograd.grad(loss, [hidden, weight, shift]) for loss in losses]  # type: ignore[arg-type]
    for our, their in zip(*gradients, strict=True):
        assert torch.allclose(our, their, atol=1e-3)
