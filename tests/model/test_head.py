"""The chunked head against torch's own log-softmax, and its hint."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.batch.protocols import BlockwiseGradient
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


def test_gradients_of_a_16_bit_parameter_are_added_up_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of one target: added up in bfloat16, 53 of them would lose two of eight bits."""
    monkeypatch.setattr(head, "_chunk_rows", lambda vocabulary: 1)
    hidden, weight, _, target, coefficients = inputs(False)
    gradients = []
    for parameter in (weight, weight.detach().bfloat16().requires_grad_()):
        found, _ = target_log_probabilities(hidden.bfloat16(), parameter, None, target, coefficients)
        gradients.append(torch.autograd.grad((found * coefficients).sum(), parameter)[0])
    assert gradients[1].dtype == torch.bfloat16
    assert torch.equal(gradients[1], gradients[0].bfloat16())


@pytest.mark.parametrize("hint", ["none", "right", "blocks"])
@pytest.mark.parametrize("cap", [None, 3.0])
def test_a_frozen_head_has_no_gradient_and_changes_no_other(hint: str, cap: float | None) -> None:
    hidden, weight, shift, target, coefficients = inputs(True)
    known = BlockwiseGradient(torch.arange(53) // 20, lambda values: coefficients)
    expected = {"none": None, "right": coefficients, "blocks": known}[hint]
    found, _ = target_log_probabilities(hidden, weight, shift, target, expected, cap=cap)
    whole = torch.autograd.grad((found * coefficients).sum(), hidden)[0]
    outputs = head._HeadOutputs(hidden, weight, shift, (True, False, False))
    assert outputs.weight is None
    assert outputs.bias is None
    assert shift is not None
    found, _ = target_log_probabilities(hidden, weight.detach(), shift.detach(), target, expected, cap=cap)
    assert torch.equal(torch.autograd.grad((found * coefficients).sum(), hidden)[0], whole)


@pytest.mark.parametrize("hint", ["right", "blocks"])
@pytest.mark.parametrize("cap", [None, 200.0])
def test_hopeless_tokens_among_others_keep_values_and_gradients(
    hint: str, cap: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows of hopeless tokens are in several chunks; their gradient under a hint is that without one."""
    monkeypatch.setattr(head, "_chunk_rows", lambda vocabulary: 16)
    hidden, weight, shift, target, _ = inputs(True)
    with torch.no_grad():
        for row in (3, 20, 21, 50):
            hidden[row] = 40.0 * weight[(target[row] + 1) % 97]
    block = torch.arange(53) // 9
    results = []
    for expected in (None, {"right": torch.ones(53), "blocks": block_hint(block)}[hint]):
        found, _ = target_log_probabilities(hidden, weight, shift, target, expected, cap=cap)
        loss = found.sum() if hint == "right" else loss_of_blocks(found, block)
        results.append([found, *torch.autograd.grad(loss, (hidden, weight, shift))])
    logits = hidden @ weight.t() + shift
    logits = logits if cap is None else cap * torch.tanh(logits / cap)
    exact = torch.log_softmax(logits, dim=-1).gather(1, target[:, None])[:, 0]
    assert exact.min() < -100
    assert torch.allclose(results[0][0], exact, rtol=1e-5, atol=1e-4)
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-5)


def test_a_second_backward_pass_computes_its_own_gradient() -> None:
    hidden, weight, _, target, coefficients = inputs(False)
    found, _ = target_log_probabilities(hidden, weight, None, target, coefficients)
    first = torch.autograd.grad((found * coefficients).sum(), weight, retain_graph=True)[0]
    second = torch.autograd.grad((found * coefficients).sum(), weight)[0]
    assert torch.allclose(first, second, atol=1e-5)


# Blocks of 53 targets: one target each; some of 9, 17 and 27; one within another; only one.
BLOCKS = {
    "single": list(range(53)),
    "several": [0] * 9 + [1] * 17 + [2] * 27,
    "nested": [0] * 5 + [1] * 20 + [0] * 5 + [3] * 10 + [2] * 13,
    "one": [0] * 53,
}


def loss_of_blocks(log_probability: torch.Tensor, block: torch.Tensor) -> torch.Tensor:
    """Not linear, and the gradient of a target depends on all of its block."""
    sums = torch.zeros(int(block.max()) + 1).index_add(0, block, log_probability)
    return torch.nn.functional.softplus(-0.01 * sums - 0.3).sum() / 7


def block_hint(block: torch.Tensor, factor: float = 1.0) -> BlockwiseGradient:
    def gradient(log_probability: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            leaf = log_probability.clone().requires_grad_()
            return factor * torch.autograd.grad(loss_of_blocks(leaf, block), leaf)[0]

    return BlockwiseGradient(block, gradient)


def computed_rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many targets every product of the head was for."""
    rows: list[int] = []
    original = head._HeadPass.probabilities

    def probabilities(head_pass: head._HeadPass, part: slice) -> torch.Tensor:
        rows.append(part.stop - part.start)
        return original(head_pass, part)

    monkeypatch.setattr(head._HeadPass, "probabilities", probabilities)
    return rows


@pytest.mark.parametrize("rows", [16, 24, 100])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", BLOCKS)
def test_a_gradient_computed_block_by_block_is_that_of_autograd(
    name: str, bias: bool, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head, "_chunk_rows", lambda vocabulary: rows)
    computed = computed_rows(monkeypatch)
    hidden, weight, shift, target, _ = inputs(bias)
    leaves, block = [leaf for leaf in (hidden, weight, shift) if leaf is not None], torch.tensor(BLOCKS[name])
    found, correct = target_log_probabilities(hidden, weight, shift, target, block_hint(block))
    ours = torch.autograd.grad(loss_of_blocks(found, block), leaves)
    assert max(computed) <= rows
    logits = hidden @ weight.t() + (0.0 if shift is None else shift)
    table = torch.log_softmax(logits, dim=-1).gather(1, target[:, None])[:, 0]
    theirs = torch.autograd.grad(loss_of_blocks(table, block), leaves)
    assert torch.allclose(found, table, atol=1e-5)
    assert torch.equal(correct, logits.argmax(-1) == target)
    for our, their in zip(ours, theirs, strict=True):
        assert torch.allclose(our, their, atol=1e-6)


@pytest.mark.parametrize(("name", "rows", "expected"), [("single", 16, 53), ("several", 32, 53), ("one", 32, 74)])
def test_only_chunks_of_a_block_that_does_not_fit_are_computed_twice(
    name: str, rows: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head, "_chunk_rows", lambda vocabulary: rows)
    computed = computed_rows(monkeypatch)
    hidden, weight, _, target, _ = inputs(False)
    block = torch.tensor(BLOCKS[name])
    found, _ = target_log_probabilities(hidden, weight, None, target, block_hint(block))
    loss_of_blocks(found, block).backward()
    assert sum(computed) == expected


def test_a_wrong_hint_changes_nothing() -> None:
    hidden, weight, _, target, _ = inputs(False)
    block = torch.tensor(BLOCKS["several"])
    gradients = []
    for hint in (None, block_hint(block, 2.0)):
        found, _ = target_log_probabilities(hidden, weight, None, target, hint)
        gradients.append(torch.autograd.grad(loss_of_blocks(found, block), (hidden, weight)))
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)


def test_the_hint_is_not_used_where_no_gradient_is_wanted() -> None:
    hidden, weight, _, target, _ = inputs(False)

    def refuse(log_probability: torch.Tensor) -> torch.Tensor:
        raise AssertionError("asked for a gradient")

    with torch.no_grad():
        target_log_probabilities(
            hidden, weight, None, target, BlockwiseGradient(torch.zeros(53, dtype=torch.int64), refuse)
        )


def test_a_batch_without_targets_has_gradients_of_zero() -> None:
    hidden, weight = torch.zeros(0, 4, requires_grad=True), torch.ones(5, 4, requires_grad=True)
    none = torch.zeros(0, dtype=torch.int64)
    hint = BlockwiseGradient(none, torch.zeros_like)
    for expected in (None, torch.zeros(0), hint):
        found, _ = target_log_probabilities(hidden, weight, None, none, expected)
        assert torch.equal(torch.autograd.grad(found.sum(), weight)[0], torch.zeros(5, 4))


@given(st.lists(st.integers(0, 6), max_size=60), st.integers(1, 20))
def test_ranges_hold_all_targets_and_split_no_block(blocks: list[int], rows: int) -> None:
    ranges = head._whole_blocks(torch.tensor(blocks, dtype=torch.int64), rows)
    assert [place for begin, end in ranges for place in range(begin, end)] == list(range(len(blocks)))
    assert all(later[1] - former[0] > rows for former, later in pairwise(ranges))
    for begin, end in ranges:
        assert not set(blocks[begin:end]) & {*blocks[:begin], *blocks[end:]}
        parts = head._chunks(begin, end, rows)
        assert [place for part in parts for place in range(part.start, part.stop)] == list(range(begin, end))
        assert all(0 < part.stop - part.start <= rows for part in parts)
        if end - begin > rows:  # then nothing could be cut off
            assert not any(not set(blocks[begin:cut]) & set(blocks[cut:end]) for cut in range(begin + 1, end))


@pytest.mark.parametrize("hint", ["none", "right", "blocks"])
@pytest.mark.parametrize("bias", [False, True])
def test_capped_logits_give_the_values_and_gradients_of_torch(
    bias: bool, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head, "_chunk_rows", lambda vocabulary: 16)
    hidden, weight, shift, target, coefficients = inputs(bias)
    leaves = [leaf for leaf in (hidden, weight, shift) if leaf is not None]
    known = BlockwiseGradient(torch.arange(53) // 20, lambda values: coefficients)
    expected = {"none": None, "right": coefficients, "blocks": known}[hint]
    found, _ = target_log_probabilities(hidden, weight, shift, target, expected, cap=3.0)
    ours = torch.autograd.grad((found * coefficients).sum(), leaves)
    logits = 3.0 * torch.tanh((hidden @ weight.t() + (0.0 if shift is None else shift)) / 3.0)
    table = torch.log_softmax(logits, dim=-1).gather(1, target[:, None])[:, 0]
    theirs = torch.autograd.grad((table * coefficients).sum(), leaves)
    assert torch.allclose(found, table, atol=1e-5)
    for our, their in zip(ours, theirs, strict=True):
        assert torch.allclose(our, their, atol=1e-4)
