"""`preferences`: the arguments reach the builder, and the counts of all records are printed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.data.outcomes import write_rows
from tunesmith.cli import main as command_line

ROWS: list[dict[str, Any]] = [
    {"question": f"Q{number}", "good": f"a{number}", "bad": f"b{number}", "kind": "x" if number < 6 else "y"}
    for number in range(8)
]
FIELDS = ["--field", "prompt=question", "--field", "chosen=good", "--field", "rejected=bad"]


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_rows(tmp_path / "my rows.jsonl", ROWS)


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> object:
    monkeypatch.setattr(sys, "argv", ["tunesmith", "preferences", *map(str, words)])
    with pytest.raises(SystemExit) as caught:
        command_line.main()
    return caught.value.code


def test_the_pairs_are_written_and_the_counts_are_printed(
    rows: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (rows.parent / "cleaned.txt").write_text("Q1\nQ2\nQ3\nQ4\nQ7\n")
    (rows.parent / "held.txt").write_text("Q4\n")
    lists = ["--only-prompts-of", "cleaned.txt", "--without-prompts-of", "held.txt"]
    more = ["--where", "kind=x", "--shuffle", "--limit", 2, "--name", "mine", "--report", "counts.json"]
    assert run(monkeypatch, rows, "--reader", "preference-text", *FIELDS, *lists, *more, "-o", "out.jsonl") == 0
    said = capsys.readouterr().out
    assert said.splitlines() == [
        "mine:",
        "  records          8",
        "  used             3",
        "  rejected         5  prompt is not in the list: 2, kind is not wanted: 2, prompt is in the list: 1",
        "wrote 2 pairs to out.jsonl (left out by the limit: 1)",
    ]
    records = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [set(record) for record in records] == [{"chosen", "rejected", "source"}] * 2
    assert {record["source"] for record in records} == {"mine"}
    assert json.loads(Path("counts.json").read_text())["written"] == 2


def test_options_are_values_as_in_a_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def message(identity: str, role: str, **more: Any) -> dict[str, Any]:
        return {"message_id": identity, "text": identity, "role": role, "lang": "en", **more}

    ranked = [message(text, "assistant", rank=rank) for rank, text in enumerate("abc")]
    tree = {"tree_state": "ready_for_export", "prompt": message("q", "prompter", review_result=True, replies=ranked)}
    path = write_rows(tmp_path / "trees.jsonl", [tree])
    words = [path, "--reader", "oasst", "-o", tmp_path / "out.jsonl", "--option"]
    assert run(monkeypatch, *words, "lang=[de, en]") == 0
    assert "wrote 3 pairs" in capsys.readouterr().out
    assert run(monkeypatch, *words, "lang=[de]") == 66
    assert "there are no pairs in 1 records (language en: 1)" in capsys.readouterr().err


def test_the_seed_decides_the_rejected_reply(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [{"answer": text, "rank": rank} for rank, text in enumerate("abcdefgh", 1)]
    rows = [{"prompt": f"\n\nHuman: {number}\n\nAssistant: ", "answers": answers} for number in range(30)]
    path = write_rows(tmp_path / "nectar.jsonl", rows)

    def drawn(*words: object) -> list[str]:
        out = tmp_path / "out.jsonl"
        assert run(monkeypatch, path, "--reader", "nectar", "--option", "replies=pair", "-o", out, *words) == 0
        return [json.loads(line)["rejected"][1]["content"] for line in out.read_text().splitlines()]

    first = drawn()
    assert len(first) == 30
    assert drawn("--seed", 42) == first
    assert drawn("--seed", 7) != first
    assert drawn("--option", "seed=7") == drawn("--seed", 7)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--reader", "preference-text", "--field", "prompt"], 64, "'prompt' is not a setting; write it as in --field"),
        (
            ["--reader", "preference-text", "--where", "=x"],
            64,
            "'=x' is not a setting; write it as in --where source=evol_instruct",
        ),
        (["--reader", "dolly"], 64, "reader dolly gives demonstrations instead of pairs"),
        (["--reader", "dollly"], 78, "there is no reader 'dollly'; known are dolly, alpaca"),
        (["--reader", "hh", "--option", "clean=2"], 78, "options.clean of reader hh is 2; it must be true or false"),
        (["--reader", "hh", "--option", "clean=[1"], 78, "--option clean"),
        (["--reader", "preference-text"], 65, "; nothing was stored); the columns are"),
        (
            ["--reader", "preference-text", "--only-prompts-of", "nowhere.txt"],
            66,
            "nowhere.txt: the file does not exist",
        ),
        ([], 64, "--reader"),
    ],
)
def test_what_is_wrong_is_one_line_with_its_exit_code(
    rows: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    code: int,
    says: str,
) -> None:
    assert run(monkeypatch, rows, *words, "-o", "out.jsonl") == code
    assert says in capsys.readouterr().err
    assert not Path("out.jsonl").exists()
