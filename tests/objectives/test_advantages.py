"""Advantages, whitening, KL penalty and its control are those of the originals, and the same for flat lists."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tunesmith.objectives.advantages import (
    Moments,
    adaptive_kl,
    generalized_advantages,
    kl_difference,
    kl_quadratic,
    reply_advantages,
    token_rewards,
    whiten,
)

Golden = Callable[[str], dict[str, Any]]

TRLX_EPSILON = 1e-8


def cases(golden: Golden, kind: str, number: int) -> list[dict[str, Any]]:
    found = [case for case in golden("losses")["cases"] if case["kind"] == kind]
    assert len(found) == number
    return found


def numbers(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def expect(found: Tensor, expected: Any) -> None:
    torch.testing.assert_close(found, numbers(expected), rtol=1e-9, atol=1e-12)


def test_whitening_is_that_of_easylm_and_of_trlx(golden: Golden) -> None:
    for case in cases(golden, "easylm_whiten", 4):
        mask, shift = numbers(case["input"]["mask"]), case["settings"]["shift_mean"]
        expect(whiten(numbers(case["input"]["x"]), mask, shift_mean=shift), case["expected"]["whitened"])
    for case in cases(golden, "trlx_whiten", 2):
        shift = case["settings"]["shift_mean"]
        found = whiten(numbers(case["input"]["x"]), shift_mean=shift, epsilon=TRLX_EPSILON)
        torch.testing.assert_close(found, numbers(case["expected"]["whitened"]), rtol=1e-6, atol=1e-6)


def test_advantages_and_returns_are_those_of_trlx(golden: Golden) -> None:
    for case in cases(golden, "trlx_gae", 8):
        settings = case["settings"]
        advantages, returns = generalized_advantages(
            numbers(case["input"]["rewards"]),
            numbers(case["input"]["values"]),
            discount=settings["gamma"],
            gae_lambda=settings["lam"],
        )
        expect(returns, case["expected"]["returns"])
        if settings["use_whitening"]:
            advantages = whiten(advantages, epsilon=TRLX_EPSILON)
        expect(advantages, case["expected"]["advantages"])


def test_advantages_and_returns_are_those_of_easylm_but_for_whitened_rewards_of_padding(golden: Golden) -> None:
    """The original's rewards are 0 after the end of a reply until they are whitened; what they are then leaks into the
    advantages of the tokens before. A flat list has no padding that could leak."""
    for case in cases(golden, "easylm_gae", 6):
        rewards, values, mask = (numbers(case["input"][name]) for name in ("rewards", "values", "mask"))
        expected, kept = case["expected"], mask > 0
        settings = {"discount": case["settings"]["gamma"], "gae_lambda": case["settings"]["lam"]}
        padded, flat = rewards * mask, rewards[kept]
        if case["settings"]["whiten_rewards"]:
            padded, flat = whiten(padded, mask, shift_mean=False), whiten(flat, shift_mean=False)
            assert (padded[~kept] != 0).all(), "they leak"
        advantages, returns = generalized_advantages(padded, values * mask, **settings)
        expect(whiten(advantages, mask), expected["advantages"])
        expect(returns, expected["returns"])
        advantages, returns = reply_advantages(flat, values[kept], kept.nonzero()[:, 0], **settings)
        theirs = numbers(expected["returns"])[kept]
        whole = (mask.sum(1) == mask.shape[1]).nonzero()[:, 0]
        unpadded = torch.isin(kept.nonzero()[:, 0], whole)
        expect(returns[unpadded], theirs[unpadded].tolist())
        assert torch.allclose(returns, theirs) != case["settings"]["whiten_rewards"]
        if not case["settings"]["whiten_rewards"]:
            expect(whiten(advantages), numbers(expected["advantages"])[kept].tolist())


def test_replies_may_be_empty_and_stand_in_any_order() -> None:
    draw = torch.Generator().manual_seed(1)
    rewards, values = torch.randn(2, 9, generator=draw, dtype=torch.float64)
    owner = torch.tensor([3, 3, 0, 0, 0, 0, 1, 1, 1])
    settings = {"discount": 0.9, "gae_lambda": 0.7}
    advantages, returns = reply_advantages(rewards, values, owner, **settings)
    for reply in (0, 1, 3):
        own = owner == reply
        expected = generalized_advantages(rewards[own], values[own], **settings)
        torch.testing.assert_close((advantages[own], returns[own]), expected)
    empty = reply_advantages(rewards[:0], values[:0], owner[:0], **settings)
    assert [len(part) for part in empty] == [0, 0]


def test_lambda_1_gives_the_sum_of_the_rewards_and_lambda_0_one_step() -> None:
    draw = torch.Generator().manual_seed(4)
    rewards, values = torch.randn(2, 3, 6, generator=draw, dtype=torch.float64)
    _, returns = generalized_advantages(rewards, values, discount=1.0, gae_lambda=1.0)
    torch.testing.assert_close(returns, rewards.flip(-1).cumsum(-1).flip(-1))
    advantages, _ = generalized_advantages(rewards, values, discount=0.5, gae_lambda=0.0)
    following = torch.cat([values[:, 1:], torch.zeros(3, 1)], -1)
    torch.testing.assert_close(advantages, rewards + 0.5 * following - values)


def test_every_token_pays_for_its_kl_and_the_last_one_gets_the_score() -> None:
    policy, reference = torch.tensor([-1.0, -2.0, -0.5, -1.5]), torch.tensor([-1.5, -2.0, -1.0, -1.0])
    owner, scores = torch.tensor([0, 0, 2, 2]), torch.tensor([3.0, 99.0, -1.0])
    found = token_rewards(policy, reference, owner, scores, 0.1)
    assert found.tolist() == pytest.approx([-0.05, 3.0, -0.05, -1.0 + 0.05])


def test_both_estimates_of_the_kl_are_right_on_average_and_the_quadratic_is_never_negative() -> None:
    draw = torch.Generator().manual_seed(2)
    one, other = torch.log_softmax(torch.randn(2, 12, generator=draw, dtype=torch.float64), -1)
    exact = float((one.exp() * (one - other)).sum())
    assert float((one.exp() * kl_difference(one - other)).sum()) == pytest.approx(exact, rel=1e-12)
    assert float((one.exp() * kl_quadratic(one - other)).sum()) == pytest.approx(exact, rel=1e-12)
    assert bool((kl_quadratic(one - other) >= 0).all())
    assert kl_quadratic(torch.zeros(1)).item() == 0.0


def test_the_coefficient_of_the_kl_follows_its_target_as_in_the_original(golden: Golden) -> None:
    for case in cases(golden, "adaptive_kl", 2):
        settings, coefficient, found = case["settings"], case["settings"]["init_kl_coef"], []
        for update in case["input"]["updates"]:
            coefficient = adaptive_kl(
                coefficient,
                update["current"],
                target=settings["target"],
                steps=update["n_steps"],
                horizon=settings["horizon"],
            )
            found.append(coefficient)
        assert found == pytest.approx(case["expected"]["values"], rel=1e-12)


def test_running_moments_are_those_of_the_original_and_of_all_values_together(golden: Golden) -> None:
    (case,) = cases(golden, "running_moments", 1)
    moments, seen = Moments(), []
    assert moments.deviation == 1.0
    for batch, expected in zip(case["input"]["batches"], case["expected"]["history"], strict=True):
        alone, moments = Moments().joined(numbers(batch)), moments.joined(numbers(batch))
        found = {"batch_mean": alone.mean, "batch_std": alone.deviation}
        found |= {"mean": moments.mean, "std": moments.deviation, "count": float(moments.count)}
        assert found == pytest.approx(expected, rel=1e-9)
        seen += batch
        assert moments.deviation == pytest.approx(float(numbers(seen).std()), rel=1e-12)
    assert moments.joined(numbers([])) == moments


def test_whitened_values_have_mean_0_and_deviation_1_and_a_single_one_is_no_fault() -> None:
    values = torch.randn(50, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 7 + 3
    found = whiten(values)
    assert float(found.mean()) == pytest.approx(0.0, abs=1e-12)
    assert float(found.std()) == pytest.approx(1.0, rel=1e-6)
    assert float(whiten(values, shift_mean=False).mean()) == pytest.approx(float(values.mean()))
    assert whiten(torch.tensor([4.0])).tolist() == [0.0]
    assert math.isfinite(float(whiten(torch.full((3,), 2.0)).sum()))
