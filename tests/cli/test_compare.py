"""`compare` and `preferences --votes`: their arguments reach the functions, and mistakes are one line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.apps.reports import write_report
from tunesmith.apps.compare import open_report
from tunesmith.apps.sampling_reports import SampledReplies, prompt_digest, report_key
from tunesmith.cli import main as command_line


@pytest.fixture(autouse=True)
def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_report(tmp_path / "a.json", "m", [("Q", {"k": ["1", "2"]})])


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> object:
    monkeypatch.setattr(sys, "argv", ["tunesmith", *map(str, words)])
    with pytest.raises(SystemExit) as caught:
        command_line.main()
    return caught.value.code


def test_numbers_and_page_in_one_call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "compare", "a.json", "-o", "page.html", "--text", "--seed", 5) == 0
    text = capsys.readouterr().out
    assert text.startswith("1 model, 1 prompt\n")
    assert '"seed":5' in Path("page.html").read_text()


def test_votes_become_pairs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], report: Path) -> None:
    sides = [{"report": report_key(open_report(report)), "configuration": "k", "sample": n} for n in (0, 1)]
    vote = {"prompt": prompt_digest(SampledReplies("Q", {})), "left": sides[0], "right": sides[1], "verdict": "right"}
    Path("mine.json").write_text(json.dumps({"format": "tunesmith votes", "votes": [vote]}))
    assert run(monkeypatch, "preferences", "a.json", "--votes", "mine.json", "-o", "pairs.jsonl") == 0
    assert "wrote 1 pairs to pairs.jsonl" in capsys.readouterr().out
    pair = json.loads(Path("pairs.jsonl").read_text())
    assert (pair["chosen"][1]["content"], pair["rejected"][1]["content"], pair["source"]) == ("2", "1", "mine")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["compare"], 64, "Missing argument 'REPORT'"),
        (["compare", "nowhere.json"], 66, "nowhere.json: the file does not exist"),
        (["compare", "a.json", "--scores", "a.json"], 65, "a.json: this is not a file of scores"),
        (["compare", "a.json", "-o", "/dev/null/x.html"], 74, "cannot write"),
        (["preferences", "a.json", "--votes", "a.json", "-o", "x"], 65, "a.json: this is not a file of votes"),
        (
            ["preferences", "a.json", "--votes", "v.json", "--reader", "hh", "-o", "x"],
            64,
            "--reader cannot be combined",
        ),
        (["preferences", "a.json", "-o", "x"], 64, "the option --reader is missing"),
    ],
)
def test_what_is_wrong_is_one_line_with_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], code: int, says: str
) -> None:
    assert run(monkeypatch, *words) == code
    assert says in capsys.readouterr().err
