"""Paired differences: equal models are rarely declared different, and a real difference is found."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tunesmith.report import paired
from tunesmith.report.paired import FEWEST_PROMPTS, paired_differences

COMPARISONS = 1000


def two_models(
    prompts: int, seed: int, *, stops: float, gap: float = 0.0, samples: int = 2
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Differences of reward, length and stop rate of simulated models, each [prompts, comparisons].

    Prompts differ in difficulty, which both models share; samples differ by chance. stops: the mean stop rate of the
    first model; gap: what the second has more.
    """
    draw = np.random.default_rng(seed)
    shape = (2, samples, prompts, COMPARISONS)
    prompt = draw.normal(size=(1, 1, prompts, 1))
    reward = prompt + draw.normal(size=shape)
    length = np.exp(6 + 0.5 * prompt + 0.5 * draw.normal(size=shape))
    rates = draw.beta(8 * stops, 8 * (1 - stops), size=(1, 1, prompts, 1)) + np.array([0.0, gap]).reshape(2, 1, 1, 1)
    stopped = (draw.random(shape) < rates).astype(float)
    first, second, third = (values.mean(axis=1) for values in (reward, length, stopped))
    return first[1] - first[0], second[1] - second[0], third[1] - third[0]


def shown(differences: np.ndarray, comparisons: int) -> np.ndarray:
    return np.array([each.is_shown for each in paired_differences(differences, comparisons)])


@pytest.mark.parametrize(("prompts", "stops"), [(250, 0.8), (40, 0.97)])
def test_two_equal_models_are_declared_different_in_at_most_five_per_cent_of_comparisons(
    prompts: int, stops: float
) -> None:
    measures = two_models(prompts, 1, stops=stops)
    assert np.mean(np.any([shown(each, 3) for each in measures], axis=0)) <= 0.05


def test_a_difference_of_eight_points_on_250_prompts_is_found_in_most_comparisons() -> None:
    *_, stopped = two_models(250, 2, stops=0.8, gap=0.08)
    assert 0.07 < stopped.mean() < 0.09
    assert np.mean(shown(stopped, 3)) > 0.7


def test_the_larger_mean_alone_would_name_a_winner_nearly_always() -> None:
    *_, stopped = two_models(250, 3, stops=0.8)
    assert np.mean(stopped.mean(axis=0) != 0) > 0.9


def test_the_interval_is_that_of_student_where_differences_are_normal() -> None:
    values = np.random.default_rng(4).normal(0.3, 2.0, size=(60, 1))
    (found,) = paired_differences(values)
    half = 2.0010 * values.std(ddof=1) / math.sqrt(60)  # the 97.5 % quantile of t with 59 degrees of freedom
    assert found.mean == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.06)


def test_more_comparisons_give_wider_intervals() -> None:
    values = np.random.default_rng(5).normal(0.3, 2.0, size=(60, 1))
    (one,), (many,) = paired_differences(values), paired_differences(values, comparisons=18)
    assert many.low < one.low < one.high < many.high


@pytest.mark.parametrize(("losses", "is_shown"), [(4, False), (5, False), (6, True)])
def test_a_few_rare_events_are_judged_as_by_the_exact_test_of_mcnemar(losses: int, is_shown: bool) -> None:
    """Of 250 prompts, the second model stops less often for 4, 5 or 6: p = 0.125, 0.0625 and 0.031."""
    values = np.zeros((250, 1))
    values[:losses] = -1.0
    (found,) = paired_differences(values)
    assert found.is_shown is is_shown
    assert found.low < 0


def test_exchanging_the_models_changes_every_sign() -> None:
    values = np.random.default_rng(6).exponential(1.0, size=(80, 2)) - 0.7
    for found, turned in zip(paired_differences(values), paired_differences(-values), strict=True):
        assert (turned.mean, turned.low, turned.high) == pytest.approx((-found.mean, -found.high, -found.low), abs=1e-3)
        assert found.is_shown == turned.is_shown


def test_equal_replies_show_no_difference() -> None:
    (found,) = paired_differences(np.zeros((250, 1)))
    assert (found.mean, found.low, found.high, found.is_shown) == (0.0, 0.0, 0.0, False)


def test_with_few_prompts_nothing_is_declared() -> None:
    few = paired_differences(np.ones((FEWEST_PROMPTS - 1, 1)))[0]
    assert (few.mean, few.low, few.high, few.is_shown) == (1.0, -math.inf, math.inf, False)
    assert paired_differences(np.zeros((0, 1)))[0].prompts == 0
    assert paired_differences(np.ones((FEWEST_PROMPTS, 1)))[0].is_shown


def test_the_numbers_are_the_same_in_every_process() -> None:
    values = np.arange(40, dtype=float)[:, None] % 7 - 2
    first = paired_differences(values)
    paired._resampling.cache_clear()
    assert paired_differences(values) == first
    assert (first[0].low, first[0].high) == pytest.approx((0.25, 1.525), abs=1e-6)
