"""Thinned curves: they stay small, lose no extreme value, and are the same however often they are read."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.train.run.curves import Curves

VALUES = st.floats(-1e6, 1e6)


def curves_of(values: list[float], most: int) -> Curves:
    curves = Curves(most)
    for step, value in enumerate(values, 1):
        curves.add(step, {"loss": value})
    return curves


@given(st.lists(VALUES, min_size=1, max_size=200), st.integers(1, 20))
def test_every_bucket_has_the_mean_and_the_extremes_of_its_steps(values: list[float], most: int) -> None:
    curves = curves_of(values, most)
    numbers = curves.numbers()
    assert len(numbers) <= most
    assert numbers == list(range(len(numbers))), "there is no gap"
    for number, bucket in curves.metrics["loss"].items():
        steps = values[number * curves.width : (number + 1) * curves.width]
        assert (bucket.count, bucket.low, bucket.high) == (len(steps), min(steps), max(steps))
        assert bucket.mean == pytest.approx(math.fsum(steps) / len(steps), abs=1e-6)
        assert curves.last_step(number) == (number + 1) * curves.width


def test_a_short_run_keeps_every_value() -> None:
    curves = curves_of([3.0, 1.0, 2.0], 3)
    assert curves.width == 1
    assert [curves.metrics["loss"][number].mean for number in curves.numbers()] == [3.0, 1.0, 2.0]


@pytest.mark.parametrize("value", ["NaN", "Infinity", math.inf, -math.inf, math.nan, 1e300, None, True, [1], 10**400])
def test_what_is_no_ordinary_number_is_left_out(value: object) -> None:
    curves = Curves()
    curves.add(1, {"loss": value, "accuracy": 0.5})
    assert list(curves.metrics) == ["accuracy"]


def test_metrics_that_only_some_steps_have_stay_at_their_steps() -> None:
    curves = Curves(4)
    for step in range(1, 9):
        curves.add(step, {"loss": step, **({"rewards/mean": step} if step == 5 else {})})
    assert curves.width == 2
    assert {number: bucket.mean for number, bucket in curves.metrics["rewards/mean"].items()} == {2: 5}
