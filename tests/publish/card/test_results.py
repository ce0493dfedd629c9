"""Results count for the weights that they were measured on, by digest: not by the name of a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.apps.reports import write_report
from tests.publish.card.card_runs import add_results, copy_run, scores_of
from tunesmith.apps.compare import run as compare
from tunesmith.publish.card.results import FoundResults, ResultReader

NO_SCORES = (
    "it has the scores of no sampling report of this model (score the report again), so the card does not use it"
)
NO_REPORT = "it compares no sampling report of this model that is here, so the card does not use it"


@pytest.fixture
def run(dolly_run: Path, tmp_path: Path) -> Path:
    directory = copy_run(dolly_run, tmp_path / "run")
    add_results(directory)
    return directory


def read(run: Path) -> FoundResults:
    return ResultReader(run, run / "export").read()


def other_report(path: Path) -> Path:
    """A report of another model, with the same prompts."""
    path.parent.mkdir(exist_ok=True)
    return write_report(path, "other", [(f"What is {n}?", {"k50": ["No."]}) for n in range(3)])


def test_scores_of_replies_that_have_changed_are_left_out(run: Path) -> None:
    (found,) = read(run).rewards
    assert (found.source, found.report, found.means) == ("scores.json", "report.json", {"k50": 1.25})
    report = run / "report.json"
    report.write_text(report.read_text().replace("It is 1.", "It is one."))
    assert read(run).rewards == []
    assert f"scores.json: {NO_SCORES}" in read(run).dropped


def test_scores_of_a_report_with_the_same_name_are_left_out(run: Path) -> None:
    scores = scores_of(other_report(run / "others" / "report.json"))
    (run / "scores.json").write_text(json.dumps(scores))
    assert f"scores.json: {NO_SCORES}" in read(run).dropped
    del scores["report_key"]  # as an earlier version has written them
    (run / "scores.json").write_text(json.dumps(scores))
    assert f"scores.json: {NO_SCORES}" in read(run).dropped


def test_scores_of_several_reports_are_one_file(run: Path) -> None:
    others = scores_of(other_report(run / "others" / "other.json"))
    (run / "scores.json").write_text(json.dumps([others, scores_of(run / "report.json")]))
    found = read(run)
    assert [each.report for each in found.rewards] == ["report.json"]
    assert f"scores.json: {NO_SCORES}" in found.dropped


def test_a_comparison_page_counts_if_it_has_a_report_of_this_model(run: Path) -> None:
    other = other_report(run / "others" / "other.json")
    compare([str(run / "report.json"), str(other)], output=run / "comparison.html")
    compare([str(other)], output=run / "others" / "page.html")
    found = read(run)
    assert found.pages == ["comparison.html"]
    assert f"others/page.html: {NO_REPORT}" in found.dropped
    report = run / "report.json"
    report.write_text(report.read_text().replace("It is 1.", "It is one."))  # written again after the comparison
    assert read(run).pages == []
    page = run / "comparison.html"
    page.write_text(page.read_text().replace('"models":', '"modes":'))
    assert f"comparison.html: {NO_REPORT}" in read(run).dropped


def test_results_of_the_run_count_for_an_export_that_differs_by_the_code_of_a_pipeline_only(
    run: Path, tmp_path: Path
) -> None:
    other = copy_run(run / "export", tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "custom_pipelines": {"text-generation": {}}}))
    assert len(ResultReader(run, other).read().replies) == 1
    (other / "config.json").write_text(json.dumps({**config, "custom_pipelines": {}, "attention_dropout": 0.5}))
    found = ResultReader(run, other).read()
    assert (found.replies, found.benchmarks) == ([], [])
    assert "report.json: it is of other weights than the export, so the card does not use it" in found.dropped


def test_results_next_to_an_export_elsewhere_are_found(run: Path, tmp_path: Path) -> None:
    other = copy_run(run / "export", tmp_path / "other")
    (run / "report.json").rename(other / "report.json")
    found = ResultReader(run, other).read()
    assert [each.source for each in found.replies] == ["report.json"]
    assert [each.source for each in found.rewards] == ["scores.json"]
