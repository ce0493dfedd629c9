"""PPO however a step is cut up, and what its clips and measures do."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.objectives.given import PROXIMAL_COLUMNS, GivenBatch, batch_of, part_of, proximal_loss
from tunesmith.objectives.proximal import ProximalPolicy, clipped_policy_losses, clipped_value_losses


def example() -> tuple[GivenBatch, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(5)
    lengths = [3, 1, 4, 2]
    batch = batch_of([[0], [0], [0], [0]], lengths)
    batch.columns.update({name: torch.randn(10, generator=draw, dtype=torch.float64) for name in PROXIMAL_COLUMNS})
    own = batch.columns["old_log_probability"] + 0.5 * torch.randn(10, generator=draw, dtype=torch.float64)
    return batch, own, torch.randn(10, generator=draw, dtype=torch.float64)


@pytest.mark.parametrize("value_clip", [0.2, None])
def test_neither_the_cut_into_micro_batches_nor_the_order_of_replies_changes_anything(value_clip: float | None) -> None:
    batch, own, value = example()
    objective = ProximalPolicy(value_clip=value_clip)
    given = own.clone().requires_grad_(), value.clone().requires_grad_()
    whole = proximal_loss(objective, *given, batch)
    assert tuple(whole.sums) == objective.metrics
    whole.loss.backward()  # type: ignore[no-untyped-call]
    assert torch.autograd.gradcheck(
        lambda a, b: proximal_loss(objective, a, b, batch).loss,
        (own.clone().requires_grad_(), value.clone().requires_grad_()),
    )
    for split in ([[0, 1], [2, 3]], [[3, 1, 0, 2]], [[], [2], [0, 3, 1]]):
        parts = [part_of(batch, groups) for groups in split]
        again = own.clone().requires_grad_(), value.clone().requires_grad_()
        found = [proximal_loss(objective, *again, part, 10.0) for part in parts]
        for part in found:
            part.loss.backward()  # type: ignore[no-untyped-call]
        for one, other in zip(again, given, strict=True):
            torch.testing.assert_close(one.grad, other.grad)
        for name in objective.metrics:
            assert sum(float(part.sums[name]) for part in found) == pytest.approx(float(whole.sums[name]), rel=1e-12)


def test_the_divergences_are_those_to_the_old_policy_and_to_the_reference() -> None:
    """Drawn from the old policy; exact where every token of a small vocabulary was drawn as often as it is probable."""
    draw = torch.Generator().manual_seed(6)
    old, own = torch.log_softmax(torch.randn(2, 8, generator=draw, dtype=torch.float64), -1)
    batch = batch_of([[0]], [8])
    batch.columns.update({name: torch.zeros(8).double() for name in PROXIMAL_COLUMNS})
    batch.columns.update(old_log_probability=old, reference=old)
    losses = [
        proximal_loss(ProximalPolicy(), own[k : k + 1], torch.zeros(1), part_of_token(batch, k), 1.0) for k in range(8)
    ]
    weighted = sum(float(old[k].exp()) * float(loss.sums["kl"]) for k, loss in enumerate(losses))
    assert weighted == pytest.approx(float((old.exp() * (old - own)).sum()), rel=1e-9)
    weighted = sum(float(own[k].exp()) * float(loss.sums["reference_kl"]) for k, loss in enumerate(losses))
    assert weighted == pytest.approx(float((own.exp() * (own - old)).sum()), rel=1e-9)


def part_of_token(batch: GivenBatch, place: int) -> GivenBatch:
    alone = batch_of([[0]], [1])
    alone.columns.update({name: values[place : place + 1] for name, values in batch.columns.items()})
    return alone


def test_without_a_clip_the_value_loss_is_half_the_squared_error() -> None:
    batch, own, value = example()
    found = proximal_loss(ProximalPolicy(value_clip=None), own, value, batch)
    assert float(found.sums["value_clipped"]) == 0.0
    assert float(found.sums["value_loss"]) == pytest.approx(float(found.sums["value_error"]) / 2, rel=1e-12)
    assert float(proximal_loss(ProximalPolicy(), own, value, batch).sums["value_loss"]) > float(
        found.sums["value_loss"]
    )


def test_beyond_the_clip_nothing_is_gained_and_mistakes_are_still_corrected() -> None:
    old = torch.zeros(4)
    own = torch.tensor([0.5, -0.5, 0.5, -0.5], requires_grad=True)
    losses, clipped = clipped_policy_losses(own, old, torch.tensor([1.0, -1.0, -1.0, 1.0]), 0.2)
    losses.sum().backward()  # type: ignore[no-untyped-call]
    assert clipped.tolist() == [True, True, False, False]
    assert own.grad is not None
    assert (own.grad != 0).tolist() == [False, False, True, True]
    assert losses.tolist()[:2] == pytest.approx([-1.2, 0.8])


def test_a_value_that_ran_ahead_of_its_clip_is_held_and_one_that_ran_astray_is_not() -> None:
    value = torch.tensor([1.0, -1.0], requires_grad=True)
    losses, clipped = clipped_value_losses(value, torch.zeros(2), torch.full((2,), 2.0), 0.2)
    losses.sum().backward()  # type: ignore[no-untyped-call]
    assert clipped.tolist() == [True, False]
    assert value.grad is not None
    assert value.grad.tolist() == [0.0, -3.0]
    assert losses.tolist() == pytest.approx([0.5 * 1.8**2, 0.5 * 9.0])
