"""Success rates and paired gains with their intervals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.report.intervals import Gain, GroupedRate, Rate


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
def test_newcombes_interval_has_its_published_values(
    counts: tuple[int, int, int, int], low: float, high: float
) -> None:
    assert Gain(*counts).interval() == pytest.approx((low, high), abs=1e-4)


numbers = st.integers(0, 300)


@settings(max_examples=200, deadline=None)
@given(numbers, numbers, numbers, numbers)
def test_the_interval_of_a_gain_holds_the_difference_and_turns_with_the_order(
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


@given(total=st.integers(1, 5000))
def test_the_interval_of_none_and_of_all_ends_exactly_at_the_bound(total: int) -> None:
    assert Rate(0, total).interval()[0] == 0.0
    assert Rate(total, total).interval()[1] == 1.0
    assert Rate(0, total).interval()[1] == pytest.approx(1 - Rate(total, total).interval()[0])


def test_two_equal_models_have_a_gain_of_nothing_give_or_take_little() -> None:
    low, high = Gain(both=253, gained=0, lost=0, neither=0).interval()
    assert -0.02 < low <= 0 <= high < 0.02


@pytest.mark.parametrize(
    ("successes", "total", "low", "high"),
    [(0, 10, 0.0, 0.27753), (10, 10, 0.72247, 1.0), (5, 10, 0.23659, 0.76341), (81, 100, 0.72220, 0.87490)],
)
def test_wilsons_interval_has_its_published_values(successes, total, low, high):
    assert Rate(successes, total).interval() == pytest.approx((low, high), abs=1e-4)


def test_nothing_tried_says_nothing():
    assert Rate(0, 0).share == 0.0
    assert Rate(0, 0).interval() == (0.0, 1.0)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 500).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_the_interval_of_a_rate_holds_the_share(counts):
    rate = Rate(*counts)
    low, high = rate.interval()
    assert 0.0 <= low <= rate.share + 1e-12
    assert rate.share - 1e-12 <= high <= 1.0


def test_a_grouped_rate_with_one_trial_in_each_group_is_a_rate() -> None:
    outcomes = [n % 3 == 0 for n in range(40)]
    grouped = GroupedRate.of([outcome] for outcome in outcomes)
    assert grouped.rate == Rate(sum(outcomes), 40)
    assert grouped.interval() == pytest.approx(grouped.rate.interval())


def test_equal_outcomes_in_a_group_count_once() -> None:
    outcomes = [n % 3 == 0 for n in range(40)]
    grouped = GroupedRate.of([outcome] * 5 for outcome in outcomes)
    assert grouped.share == Rate(sum(outcomes), 40).share
    assert grouped.interval() == pytest.approx(Rate(sum(outcomes), 40).interval())


def test_groups_that_differ_count_as_many_independent_trials_as_have_their_variance() -> None:
    """Variance 4/3 * 2 / 8**2 = 1/24, that of six trials: 0.25 / 6."""
    assert GroupedRate(((2, 2), (0, 2), (1, 2), (1, 2))).interval() == pytest.approx(Rate(3, 6).interval())


def test_the_intervals_of_grouped_rates_cover_the_true_rate() -> None:
    """250 prompts with two replies; the prompts differ much, as real ones do."""
    draw = np.random.default_rng(5)
    covered = narrow = 0
    for _ in range(1000):
        chances = draw.beta(1.6, 0.4, size=250)  # mean 0.8
        successes = draw.binomial(2, chances)
        grouped = GroupedRate(tuple((int(number), 2) for number in successes))
        low, high = grouped.interval()
        covered += low <= 0.8 <= high
        low, high = grouped.rate.interval()
        narrow += low <= 0.8 <= high
    assert covered >= 935
    assert narrow < 920


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12))
def test_a_grouped_interval_is_between_those_of_groups_and_of_trials(pairs: list[tuple[int, int]]) -> None:
    grouped = GroupedRate.of([True] * yes + [False] * no for yes, no in pairs)
    low, high = grouped.interval()
    inner = grouped.rate.interval()
    assert 0 <= low <= inner[0] + 1e-12
    assert inner[1] - 1e-12 <= high <= 1
