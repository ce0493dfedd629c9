"""What is compared with what, and the numbers of a comparison."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.report.comparisons import compared
from tunesmith.report.compare_statistics import ALL, ReplyColumn, compare_columns, summarize
from tunesmith.report.compared import unique_labels


def pairs(comparison):
    return [(each.first, each.second) for each in compare_columns(comparison)]


def test_two_models_are_compared_for_every_configuration_that_both_have() -> None:
    replies = {(0, "k50"): ["a"], (0, "greedy"): ["b"], (0, "own"): ["c"], (1, "greedy"): ["d"], (1, "k50"): ["e"]}
    assert pairs(compared([replies] * 12)) == [
        (ReplyColumn(0, "k50"), ReplyColumn(1, "k50")),
        (ReplyColumn(0, "greedy"), ReplyColumn(1, "greedy")),
    ]


def test_models_without_a_common_configuration_are_compared_over_all_their_replies() -> None:
    comparison = compared([{(0, "k50"): ["aa"], (0, "greedy"): ["a"], (1, "sample"): ["bbbb"]}] * 12)
    (difference,) = compare_columns(comparison)
    assert (difference.first, difference.second) == (ReplyColumn(0, ALL), ReplyColumn(1, ALL))
    assert difference.measures["length"].mean == pytest.approx(2.5)


def test_every_two_of_three_models_are_compared() -> None:
    comparison = compared([{(model, "k50"): ["a"] for model in range(3)}] * 12, models=("x", "y", "z"))
    assert [(one.model, other.model) for one, other in pairs(comparison)] == [(0, 1), (0, 2), (1, 2)]


def test_the_configurations_of_a_single_model_are_compared_with_its_first() -> None:
    comparison = compared([{(0, name): ["a"] for name in ("k50", "greedy", "typical2")}] * 12, models=("only",))
    assert pairs(comparison) == [
        (ReplyColumn(0, "k50"), ReplyColumn(0, "greedy")),
        (ReplyColumn(0, "k50"), ReplyColumn(0, "typical2")),
    ]


def test_only_prompts_that_both_answered_count() -> None:
    both, first = {(0, "k"): ["a"], (1, "k"): ["abc", "abcde"]}, {(0, "k"): ["a" * 1000]}
    comparison = compared([both] * 12 + [first] * 5)
    (difference,) = compare_columns(comparison)
    assert (difference.measures["length"].prompts, difference.measures["length"].mean) == (12, 3.0)
    assert comparison.shared_prompts() == 12


def test_a_measure_that_one_model_does_not_have_is_left_out() -> None:
    replies = [{(0, "k"): ["a"], (1, "k"): ["b"]}] * 12
    rewards = {(0, "k"): [1.0] * 12, (1, "k"): [2.0, *[None] * 11]}
    (difference,) = compare_columns(compared(replies, ended={0: True}, rewards=rewards))
    assert set(difference.measures) == {"length", "reward"}
    assert difference.measures["reward"].prompts == 1
    assert not difference.measures["reward"].is_shown
    (difference,) = compare_columns(compared(replies, ended={0: True, 1: False}))
    assert difference.measures["ended"].mean == -1.0


def test_models_without_a_common_prompt_have_no_difference() -> None:
    (difference,) = compare_columns(compared([{(0, "k"): ["a"]}, {(1, "k"): ["b"]}]))
    assert difference.measures == {}


def test_the_summary_counts_replies_and_their_faults() -> None:
    loop, leak = "go on " * 12, "Yes.<|prompter|>No?"
    replies = [{(0, "k"): ["four", loop]}, {(0, "k"): ["", leak]}]
    (row,) = summarize(compared(replies, models=("only",), ended={0: True}, rewards={(0, "k"): [1.0, 4.0]}))
    assert (row.prompts, row.replies, row.ended, row.loops, row.control, row.empty) == (2, 4, 1.0, 0.25, 0.25, 0.25)
    assert row.length == (4 + len(loop) + 0 + len(leak)) / 4
    assert row.reward == 2.5


NAMES = st.sampled_from(["a/model", "b/model", "model", "a/model (r.json)", "other", "a/", ""])


@given(
    st.lists(
        st.tuples(
            NAMES,
            st.sampled_from(["r.json", "s.json", "r_s.json", "r_s", "x/r.json", "_", "."])
            | st.text("r_./", max_size=6),
        ),
        max_size=8,
    )
)
def test_no_two_models_have_the_same_label(names: list[tuple[str, str]]) -> None:
    labels = unique_labels(names)
    assert len(labels) == len(names)
    assert len(set(labels)) == len(labels)


def test_labels_are_as_short_as_they_can_be() -> None:
    assert unique_labels([("a/one", "x.json"), ("b/two", "x.json")]) == ["one", "two"]
    assert unique_labels([("a/one", "x.json"), ("b/one", "y.json")]) == ["a/one", "b/one"]
    assert unique_labels([("a/one", "x.json"), ("a/one", "y.json")]) == ["one (x)", "one (y)"]
    assert unique_labels([("a/one", "x.json"), ("a/one", "x.json")]) == ["one (x.json)", "one (x.json) 2"]


def test_a_label_has_the_part_of_the_file_that_others_have_not() -> None:
    def label(*files: str) -> list[str]:
        return [name.removeprefix("m (").removesuffix(")") for name in unique_labels([("m", file) for file in files])]

    assert label("2026-11-29_runs_m_sampling_own.json", "2026-11-29_runs_m_sampling_noprefix.json") == [
        "own",
        "noprefix",
    ]
    assert label("2026-11-29_m_sampling_own.json", "2026-11-30_m_sampling_own.json") == ["2026-11-29", "2026-11-30"]
    assert label("x/2026_m_own.json", "y/2026_m_own.json") == ["x", "y"]
    assert label("m.json", "m_best.json", "m_best_3.json") == ["m", "m_best", "m_best_3"]
    assert label("r.json", "r.json.gz") == ["json", "json.gz"]
    assert label("a_.json", "a.json") == ["a_.json", "a.json"]


def test_the_intervals_of_two_models_allow_for_all_of_their_differences() -> None:
    def widths(configurations: int) -> float:
        names = [f"k{number}" for number in range(configurations)]
        replies = [
            {(model, name): ["x" * (n * (model + 3) % 17)] for name in names for model in (0, 1)} for n in range(40)
        ]
        first = compare_columns(compared(replies))[0].measures["length"]
        return first.high - first.low

    assert widths(1) < widths(6) < widths(12)
