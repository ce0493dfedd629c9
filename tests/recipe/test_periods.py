"""Periods of evaluations and checkpoints: optimizer steps, or a share of the run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.recipe.good_recipe import good, problems
from tunesmith.recipe.training import period_in_steps
from tunesmith.recipe.validation import validate


@pytest.mark.parametrize(
    ("period", "total", "steps"),
    [(50, 6, 50), (None, 6, None), (0.1, 534, 53), (0.1, 6, 1), (0.25, 6, 2), (0.5, 1, 1), (0.001, 100, 1)],
)
def test_a_share_becomes_steps_and_steps_stay(period: float | None, total: int, steps: int | None) -> None:
    assert period_in_steps(period, total) == steps


@given(st.floats(0, 1, exclude_min=True, exclude_max=True), st.integers(1, 10**7))
def test_a_share_of_any_run_is_a_period_within_it(share: float, total: int) -> None:
    steps = period_in_steps(share, total)
    assert steps is not None
    assert 1 <= steps <= total


def test_a_recipe_may_have_a_share_below_one() -> None:
    assert validate(good("train.evaluate_every=0.1", "train.save_every=0.5")).train.evaluate_every == 0.1
    assert problems(good("train.evaluate_every=1.5")) == [
        "train.evaluate_every: expected a whole number or a number less than 1, got 1.5"
    ]
