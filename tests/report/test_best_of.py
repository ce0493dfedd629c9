"""The expected score of the best of n replies: equal to the mean over all subsets, and a table that fits."""

from __future__ import annotations

import math
from itertools import combinations, pairwise
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.report.best_of import BestOf, best_of_curve, curve_lines, curve_note, expected_best

SCORES = st.lists(st.floats(-50, 50), min_size=2, max_size=7)


@given(SCORES, st.data())
def test_it_is_the_mean_of_the_best_over_all_subsets(scores: list[float], data: st.DataObject) -> None:
    n = data.draw(st.integers(1, len(scores)))
    assert expected_best(scores, n) == pytest.approx(fmean(map(max, combinations(scores, n))), abs=1e-9)


@given(SCORES)
def test_a_curve_begins_with_the_mean_ends_with_the_best_and_never_falls(scores: list[float]) -> None:
    curve = best_of_curve([scores])
    assert curve is not None
    means = [point.mean for point in curve.points]
    assert means[0] == pytest.approx(fmean(scores), abs=1e-9)
    assert means[-1] == pytest.approx(max(scores), abs=1e-9)
    assert all(late >= early - 1e-9 for early, late in pairwise(means))


def test_the_estimate_has_no_bias() -> None:
    """The best of two of independent standard normal scores has the mean 1 / sqrt(pi)."""
    draws = np.random.default_rng(3).normal(size=(4000, 5))
    curve = best_of_curve(draws.tolist())
    assert curve is not None
    assert curve.points[1].mean == pytest.approx(1 / math.sqrt(math.pi), abs=0.02)
    low, high = curve.points[1].low, curve.points[1].high
    assert low is not None
    assert high is not None
    assert low < 1 / math.sqrt(math.pi) < high


def test_only_prompts_with_all_replies_count() -> None:
    curve = best_of_curve([[1.0, 3.0], [5.0], [0.0, 2.0], []])
    assert curve is not None
    assert (curve.replies, curve.prompts, curve.left_out) == (2, 2, 1)
    assert [point.mean for point in curve.points] == [1.5, 2.5]
    assert (curve.points[1].gain, curve.points[1].low) == (1.0, None)
    curve = best_of_curve([[1.0, 2.0, 3.0], [7.0, 9.0]])
    assert curve is not None
    assert (curve.prompts, curve.left_out, curve.points[-1].mean) == (1, 1, 3.0)
    assert best_of_curve([[1.0], [2.0]]) is None
    assert best_of_curve([]) is None


def test_the_divergence_of_one_reply_is_zero() -> None:
    assert BestOf(1, 0.0, 0.0, None, None).divergence == 0.0
    assert BestOf(4, 0.0, 0.0, None, None).divergence == pytest.approx(math.log(4) - 0.75)


def test_more_than_the_number_of_replies_is_refused() -> None:
    with pytest.raises(ValueError, match="the best of 3 of 2 replies"):
        expected_best([1.0, 2.0], 3)


def test_the_table_has_powers_of_two_and_the_largest_number() -> None:
    scores = [[float(number + shift) for number in range(6)] for shift in range(12)]
    curve = best_of_curve(scores)
    short = best_of_curve([[1.0, 3.0], [5.0], [0.0, 2.0]])
    assert curve is not None
    assert short is not None
    lines = list(curve_lines({"k50": curve, "a configuration with a long name": short}))
    assert lines[0].split() == ["best", "of", "n,", "n", "=", "1", "2", "4", "6"]
    assert lines[1].split() == ["k50", "8.00", "9.17", "10.1", "10.5"]
    assert lines[2].split() == ["12", "prompts", "+1.17-1.17", "+2.10-2.10", "+2.50-2.50"]
    assert lines[3].split() == ["a", "configuration", "w..", "1.50", "2.50"]
    assert lines[4].split() == ["2", "prompts", "(1", "not)", "+1.00"]
    assert lines[5].split() == ["KL,", "at", "most", "0.00", "0.19", "0.64", "0.96"]
    assert list(curve_lines({})) == []


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 300), st.floats(-1e4, 1e4), st.integers(1, 12))
def test_any_curve_fits_into_eighty_columns(count: int, high: float, prompts: int) -> None:
    curve = best_of_curve([[high, *range(count - 1)]] * prompts)
    assert curve is not None
    lines = list(curve_lines({"k" * 30: curve}))
    assert max(map(len, [*lines, *curve_note()])) <= 80
    assert str(count) in lines[0].split()
