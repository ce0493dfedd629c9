"""The pages at the end of the demo: reports in the published form, and the lines that name the pages."""

from __future__ import annotations

from pathlib import Path

from tests.playground.test_answers import ANSWERS, EXERCISES
from tunesmith.apps.sampling_reports import read_report
from tunesmith.generate.engine import GeneratedReply
from tunesmith.playground.answers import HeldOutReplies
from tunesmith.playground.pages import describe_pages, sampling_report, write_comparison


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    replies = tuple(GeneratedReply(f"Reply {index}", (1,), index != 3) for index in range(len(EXERCISES)))
    path = tmp_path / "report.json"
    path.write_text(sampling_report("dpo", EXERCISES, HeldOutReplies(replies, (True,) * len(replies))))
    report = read_report(path)
    assert report is not None
    assert report.model == "dpo"
    assert [each.prompt for each in report.prompts] == [
        f"Question {index}?" + ("\n\nP" if index in (3, 4, 5) else "") for index in range(7)
    ]
    assert [each.outputs["greedy"] for each in report.prompts] == [(f"Reply {index}",) for index in range(7)]
    assert [each.ended["greedy"] for each in report.prompts] == [(index != 3,) for index in range(7)]


def test_the_page_compares_all_models(tmp_path: Path) -> None:
    page = write_comparison(tmp_path, EXERCISES, ANSWERS)
    assert page == tmp_path / "compare.html"
    assert sorted(each.name for each in (tmp_path / "reports").iterdir()) == ["assistant.json", "base.json", "dpo.json"]
    text = page.read_text()
    for name in ANSWERS:
        assert f"<li>{name}: {name}, from {name}.json" in text
    assert "Answer 0. I hope this helps." in text


def test_the_last_lines_are_the_paths_of_the_pages(tmp_path: Path) -> None:
    first, *paths = describe_pages(tmp_path, ["base", "dpo"], tmp_path / "compare.html")
    assert first.startswith("Open in a browser:")
    assert len(first) <= 80
    assert [each.strip() for each in paths] == [
        str(tmp_path / name) for name in ("base/index.html", "dpo/index.html", "compare.html")
    ]
