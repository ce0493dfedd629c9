"""The summary of a sampling report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.apps.reports import write_report
from tunesmith.apps.compare import read_comparison
from tunesmith.apps.report_summary import summarize_report, summary_lines
from tunesmith.apps.sampling_reports import read_report
from tunesmith.report.compare_statistics import summarize
from tunesmith.report.intervals import Rate

END = "<|endoftext|>"


def test_replies_without_an_end_token_were_cut_where_others_have_one(tmp_path: Path) -> None:
    path = write_report(tmp_path / "a.json", "m", [("Q", {"k50": [f"yes{END}", "and so on"], "greedy": ["so"]})])
    report = read_report(path)
    assert report is not None
    k50, greedy = summarize_report(report)
    assert (k50.ended.rate, greedy.ended.rate) == (Rate(1, 2), Rate(0, 1))
    silent = read_report(write_report(tmp_path / "b.json", "m", [("Q", {"k50": ["yes", "no"]})]))
    assert silent is not None
    assert summarize_report(silent)[0].ended.groups == ()


def test_no_control_character_of_a_name_reaches_the_terminal(tmp_path: Path) -> None:
    report = read_report(write_report(tmp_path / "a.json", "m", [("Q", {"k\x1b[2J": ["yes"]})]))
    assert report is not None
    assert not any("\x1b" in line for line in summary_lines(report))


def test_a_published_report_has_the_numbers_of_the_comparison(real_data: Callable[[str], Path]) -> None:
    path = real_data(
        "reports/sft-4.2023-04-03_andreaskoepf_oasst-sft-4-pythia-12b-epoch-3_5_sampling_noprefix_lottery.json"
    )
    report = read_report(path)
    assert report is not None
    compared = {each.column.configuration: each for each in summarize(read_comparison([path]))}
    for found in summarize_report(report):
        expected = compared[found.configuration]
        assert found.replies == expected.replies
        shares = [rate.share for rate in (found.ended, found.loops, found.control, found.empty)]
        assert shares == [expected.ended, expected.loops, expected.control, expected.empty]
        assert found.mean == expected.length
