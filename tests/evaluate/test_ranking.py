"""How well scores agree with rankings: the measures of OpenAssistant and EasyLM, and ties that are ties."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tunesmith.evaluate.ranking import calibration_error, kendall_tau, ranking_metrics, spearman

Golden = Callable[[str], dict[str, Any]]

NAMES = {
    "accuracy": "accuracy/best_worst",
    "pos_score": "score/best",
    "neg_score": "score/worst",
    "score_diff": "margin/best_worst",
    "kendalltau": "kendall_tau",
    "spearmanr": "spearman",
}


def flat(case: dict[str, Any]) -> tuple[list[float], list[int], list[int]]:
    """(scores, groups, ranks) of a case: rows of groups of replies, best first, with padding."""
    scores: list[float] = []
    groups: list[int] = []
    ranks: list[int] = []
    labels = case["input"]["label_ids"]
    for row, (values, marks) in enumerate(zip(case["input"]["predictions"], labels, strict=True)):
        for value, mark in zip(values, marks, strict=True):
            if mark >= 0:
                group = 100 * row + mark
                ranks.append(groups.count(group))
                scores.append(value)
                groups.append(group)
    return scores, groups, ranks


def test_measures_are_those_of_openassistant_where_no_scores_tie(golden: Golden) -> None:
    cases = [case for case in golden("oasst_rm")["cases"] if case["kind"] == "metrics"]
    assert len(cases) == 5
    untied = [case for case in cases if "original_defect" not in case]
    assert len(untied) == 4
    for case in untied:
        found = ranking_metrics(*flat(case))
        theirs = {NAMES[name]: value for name, value in case["expected"].items()}
        assert {name: found[name] for name in theirs} == pytest.approx(theirs, rel=1e-9), case["id"]


def test_tied_scores_are_ties_and_not_what_a_sort_makes_of_them(golden: Golden) -> None:
    (case,) = [case for case in golden("oasst_rm")["cases"] if case.get("original_defect") == "N11"]
    found, theirs = ranking_metrics(*flat(case)), case["expected"]
    for name in ("accuracy", "pos_score", "neg_score", "score_diff"):
        assert found[NAMES[name]] == pytest.approx(theirs[name])
    assert found["kendall_tau"] == pytest.approx(stats.kendalltau([1.0, 1.0, 0.5], [3, 2, 1]).statistic)
    assert found["spearman"] == pytest.approx(stats.spearmanr([1.0, 1.0, 0.5], [3, 2, 1]).statistic)
    assert found["kendall_tau"] > 0.8 > 0.5 > theirs["kendalltau"]
    assert found["spearman"] > 0.8 > theirs["spearmanr"]


def test_measures_of_pairs_are_those_of_easylm(golden: Golden) -> None:
    cases = [case for case in golden("losses")["cases"] if case["kind"] == "easylm_reward_model"]
    assert len(cases) == 2
    for case in cases:
        chosen, rejected = case["input"]["scores_chosen"], case["input"]["scores_rejected"]
        number = len(chosen)
        found = ranking_metrics(chosen + rejected, [*range(number)] * 2, [0] * number + [1] * number)
        theirs = {
            "accuracy": case["expected"]["accuracy"],
            "accuracy/pairs": case["expected"]["accuracy"],
            "accuracy/best_worst": case["expected"]["accuracy"],
            "margin": case["expected"]["margin"],
            "score/chosen": case["expected"]["chosen_mean"],
            "score/rejected": case["expected"]["rejected_mean"],
            "score/chosen_std": case["expected"]["chosen_std"],
            "score/rejected_std": case["expected"]["rejected_std"],
        }
        assert {name: found[name] for name in theirs} == pytest.approx(theirs, rel=1e-9)
        assert (found["groups"], found["pairs"]) == (number, number)


VALUES = st.lists(st.integers(-3, 3), min_size=2, max_size=8)


@settings(max_examples=150, deadline=None)
@given(VALUES, st.data())
def test_correlations_with_ties_are_those_of_the_textbook(one: list[int], data: st.DataObject) -> None:
    other = data.draw(st.lists(st.integers(-3, 3), min_size=len(one), max_size=len(one)))
    first, second = np.array(one, np.float64), np.array(other, np.float64)
    if len(set(one)) == 1 or len(set(other)) == 1:
        assert kendall_tau(first, second) == spearman(first, second) == 0.0
        return
    assert kendall_tau(first, second) == pytest.approx(stats.kendalltau(first, second).statistic, abs=1e-12)
    assert spearman(first, second) == pytest.approx(stats.spearmanr(first, second).statistic, abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(-3, 3)), max_size=14), st.randoms())
def test_the_order_of_replies_and_the_names_of_groups_do_not_matter(
    rows: list[tuple[int, int, int]], random: Any
) -> None:
    def measured(replies: list[tuple[int, int, int]], factor: int) -> dict[str, float]:
        groups, ranks, scores = zip(*replies, strict=True) if replies else ((), (), ())
        return ranking_metrics(scores, [factor * group for group in groups], ranks)

    shuffled = list(rows)
    random.shuffle(shuffled)
    expected = measured(rows, 1)
    assert measured(shuffled, -7) == pytest.approx(expected, abs=1e-12)
    pairs = [(a, b) for a in rows for b in rows if a[0] == b[0] and a[1] < b[1]]
    assert expected["pairs"] == len(pairs)
    if pairs:
        right = sum(a[2] > b[2] for a, b in pairs) / len(pairs)
        assert expected["accuracy/pairs"] == pytest.approx(right)
        assert all(-1.0 - 1e-9 <= expected[name] <= 1.0 + 1e-9 for name in ("kendall_tau", "spearman"))
    else:
        assert expected == {"groups": 0.0, "pairs": 0.0}


def test_groups_count_alike_in_the_means_over_groups() -> None:
    found = ranking_metrics([1.0, 2.0, 3.0, 2.0, 1.0, 0.0], [0, 0, 1, 1, 1, 2], [0, 1, 0, 1, 2, 0])
    assert (found["groups"], found["pairs"]) == (2.0, 4.0), "one reply alone is no group to compare"
    assert found["accuracy"] == 0.5
    assert found["accuracy/pairs"] == 0.75
    assert found["accuracy/best_worst"] == 0.5
    assert found["margin"] == pytest.approx((-1.0 + 4.0 / 3.0) / 2)
    assert found["score/chosen"] == pytest.approx((1.0 + 8.0 / 3.0) / 2)
    assert found["score/rejected"] == pytest.approx((2.0 + 4.0 / 3.0) / 2)


def test_where_ranks_tie_at_an_end_all_of_them_are_the_best_or_the_worst() -> None:
    found = ranking_metrics([1.0, 3.0, 2.0, 0.0], [0] * 4, [0, 0, 1, 1])
    assert found["score/best"] == 2.0
    assert found["score/worst"] == 1.0
    assert found["accuracy/best_worst"] == 0.75


def test_a_model_that_is_as_sure_as_it_is_right_is_calibrated() -> None:
    sure = np.log(0.75 / 0.25)
    assert calibration_error([sure, sure, sure, -sure]) == pytest.approx(0.0, abs=1e-12)
    assert calibration_error([sure] * 4) == pytest.approx(0.25)
    assert calibration_error([-sure] * 4) == pytest.approx(0.75)
    assert calibration_error([0.0, 0.0, 0.0]) == 0.0
    assert calibration_error([]) == 0.0
    assert calibration_error([1e6, -1e6]) == pytest.approx(0.5), "sure and wrong half of the time"


def test_faults_of_one_sureness_do_not_make_up_for_those_of_another() -> None:
    surer, less_sure = np.log(0.8 / 0.2), np.log(0.7 / 0.3)
    assert calibration_error([surer, -less_sure], bins=2) == pytest.approx((0.2 + 0.7) / 2)
    assert calibration_error([surer, -less_sure], bins=1) == pytest.approx(abs(0.2 - 0.7) / 2)


def test_calibration_of_probabilities_that_are_true_goes_to_zero() -> None:
    draw = np.random.default_rng(1)
    margins = draw.normal(0.0, 2.0, 40_000)
    margins = np.abs(margins) * np.where(draw.random(40_000) < 1 / (1 + np.exp(-np.abs(margins))), 1, -1)
    assert calibration_error(margins) < 0.01
    assert calibration_error(3 * margins) > 0.05


def test_the_calibration_of_scores_that_are_not_finite_is_not_finite() -> None:
    """So that the run stops with the name of the metric, and not with a traceback."""
    assert np.isnan(calibration_error([1.0, float("nan")]))
    assert np.isfinite(calibration_error([1.0, float("inf")]))
