"""The summary of sampled replies: every number is that of its definition, and the table fits into 80 columns."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.report.intervals import Rate
from tunesmith.report.reply_faults import has_control_text, has_loop, words_of
from tunesmith.report.sampling_summary import (
    ConfigurationSummary,
    SampledText,
    distinct_share,
    sampling_lines,
    summarize_samples,
)


def summary(*groups: Sequence[SampledText]) -> ConfigurationSummary:
    (found,) = summarize_samples({"k50": groups})
    return found


def texts(*found: str) -> list[SampledText]:
    return [SampledText(text, ended=True) for text in found]


def test_faults_are_counted_by_the_definitions_of_the_comparison() -> None:
    loop, leak = "so it goes on " * 5, "Yes.<|prompter|>And now?"
    found = summary(texts(loop, "fine"), texts(leak, " \n"))
    assert (found.loops.rate, found.control.rate, found.empty.rate) == (Rate(1, 4), Rate(1, 4), Rate(1, 4))


def test_lengths_are_tokens_only_where_all_are_known() -> None:
    known = [SampledText("four", True, 1), SampledText("four more", True, 2), SampledText("x" * 30, False, 9)]
    found = summary(known)
    assert (found.unit, found.mean, found.median) == ("tokens", 4.0, 2.0)
    found = summary([*known, SampledText("y", True)])
    assert (found.unit, found.mean, found.median) == ("characters", 11.0, 6.5)


def test_replies_that_the_report_does_not_show_the_end_of_are_no_trials() -> None:
    found = summary([SampledText("a", True), SampledText("b", False)], [SampledText("c")])
    assert found.ended.rate == Rate(1, 2)
    unknown = summary([SampledText("c")])
    assert unknown.as_json()["ended"] is None
    assert "?" in list(sampling_lines([unknown]))[1]


def test_equal_samples_are_counted_for_the_same_prompt_only() -> None:
    found = summary(texts("a", "a ", "b"), texts("a", "c"), texts("a"))
    assert found.same.rate == Rate(2, 5)
    assert summary(texts("a"), texts("a")).as_json()["same"] is None


def test_a_sequence_is_new_once_in_its_reply() -> None:
    assert distinct_share(["a b a b"], 1) == 0.5
    assert distinct_share(["a b a b"], 2) == pytest.approx(2 / 3)
    assert distinct_share(["a b", "a b"], 2) == 1.0
    assert distinct_share(["a b c"], 4) is None


def test_prompts_and_configurations_without_replies_are_left_out() -> None:
    found = summarize_samples({"k50": [texts("a"), []], "greedy": [[], []]})
    assert [(each.configuration, each.prompts, each.replies) for each in found] == [("k50", 1, 1)]


TEXT = st.builds(
    SampledText, st.text(max_size=20) | st.sampled_from(["a b " * 8, "</s>", ""]), st.none() | st.booleans(), st.none()
)


@given(st.lists(st.lists(TEXT, min_size=1, max_size=4), min_size=1, max_size=5))
def test_any_replies_give_the_counts_of_a_plain_loop(groups: list[list[SampledText]]) -> None:
    found, replies = summary(*groups), [reply for group in groups for reply in group]
    assert found.replies == len(replies)
    assert found.loops.rate.successes == sum(has_loop(reply.text) for reply in replies)
    assert found.control.rate.successes == sum(has_control_text(reply.text) for reply in replies)
    assert found.ended.rate == Rate(
        sum(reply.ended is True for reply in replies), sum(reply.ended is not None for reply in replies)
    )
    words = [words_of(reply.text) for reply in replies]
    if any(words):
        assert found.distinct[1] == sum(len(set(each)) for each in words) / sum(map(len, words))
    for line in sampling_lines([found]):
        assert len(line) <= 80


def test_the_table_has_a_line_of_shares_above_a_line_of_their_intervals() -> None:
    groups = [texts("one two three four five", "six")] * 9 + [[SampledText("x" * 5000, False), SampledText("", True)]]
    found = summarize_samples({"a configuration with a long name": groups, "k50": groups[:1]})
    lines = list(sampling_lines(found))
    assert lines[0].split() == ["replies", "ended", "mean", "median", "loops", "dist-4", "empty", "leaks", "same"]
    assert lines[1] == "a configuratio..      20    95%    262     13     0%   1.00     5%     0%     0%"
    assert lines[2] == "                          76-99                 0-28          1-24   0-28   0-28"
    assert max(map(len, lines)) <= 80
    assert lines[5] == ""
    assert len(lines[6:]) == 4, "it is printed at every call, so it is short"


def test_a_name_with_control_characters_and_thousands_fit() -> None:
    groups = [[SampledText("word " * 4000, False)] * 4] * 3000
    lines = list(sampling_lines(summarize_samples({"k" * 17: groups[:30]})))
    assert max(map(len, lines)) <= 80
