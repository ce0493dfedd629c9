"""The gain of one model over another on the same prompts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.evaluate.paired import Gain


def test_outcomes_of_the_same_prompts_are_counted_in_pairs() -> None:
    before, after = [True, True, False, False, False], [True, False, True, True, False]
    assert Gain.between(before, after) == Gain(both=1, gained=2, lost=1, neither=1)
    assert Gain.between(before, after).difference == pytest.approx(0.2)
    with pytest.raises(ValueError, match="argument 2"):
        Gain.between(before, after[:4])


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [
        ((36, 12, 2, 0), 0.0569, 0.3404),  # Newcombe 1998, method 10
        ((1, 1, 7, 12), -0.5069, -0.0256),  # airway hyper-responsiveness, in Fagerland, Lydersen and Laake 2014
        ((0, 0, 0, 0), -1.0, 1.0),
    ],
)
def test_the_interval_has_its_published_values(counts: tuple[int, int, int, int], low: float, high: float) -> None:
    assert Gain(*counts).interval() == pytest.approx((low, high), abs=1e-4)


numbers = st.integers(0, 300)


@settings(max_examples=200, deadline=None)
@given(numbers, numbers, numbers, numbers)
def test_the_interval_holds_the_difference_and_turns_with_the_order(
    both: int, gained: int, lost: int, neither: int
) -> None:
    gain, turned = Gain(both, gained, lost, neither), Gain(both, lost, gained, neither)
    low, high = gain.interval()
    assert -1 <= low <= gain.difference + 1e-12 <= high + 2e-12 <= 1 + 2e-12
    assert turned.interval() == pytest.approx((-high, -low))


def test_prompts_that_go_the_same_way_both_times_make_a_gain_more_certain() -> None:
    paired, crossed = Gain(both=180, gained=20, lost=4, neither=49), Gain(both=139, gained=61, lost=45, neither=8)
    assert paired.difference == crossed.difference
    (low, high), (wide_low, wide_high) = paired.interval(), crossed.interval()
    assert high - low < 0.6 * (wide_high - wide_low)


def test_two_equal_models_have_a_gain_of_nothing_give_or_take_little() -> None:
    low, high = Gain(both=253, gained=0, lost=0, neither=0).interval()
    assert -0.02 < low <= 0 <= high < 0.02
