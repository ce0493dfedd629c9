"""The first part of `tunesmith init`: reader, objective and the first records, before any model is read."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tunesmith.apps.init import GivenSource, Look, look
from tunesmith.cli.init import init, program_name
from tunesmith.errors import TunesmithError, UsageError

ROW = {"question": "Who won?", "answer": "Ann."}
PAIR = {"prompt": "Who won?", "chosen": "Ann.", "rejected": "No idea."}


def write_rows(directory: Path, rows: Sequence[dict[str, Any]]) -> str:
    path = directory / "mine.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def looked(path: str, given: GivenSource | None = None, objective: str | None = None) -> Look:
    return look(replace(given or GivenSource(path), path=path), objective)


def refusal(path: str, given: GivenSource | None = None, objective: str | None = None) -> str:
    with pytest.raises(TunesmithError) as refused:
        looked(path, given, objective)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    ("row", "objective"), [(ROW, "sft"), (PAIR, "dpo"), ({"prompt": "Who won?"}, "ppo"), ({"text": "A tale."}, "sft")]
)
def test_the_objective_is_what_the_data_are_good_for(tmp_path: Path, row: dict[str, Any], objective: str) -> None:
    assert looked(write_rows(tmp_path, [row])).objective == objective


def test_three_records_are_shown_as_messages_that_cannot_affect_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_rows(tmp_path, [{"question": "a\nb\x1b[31m", "answer": f"{n} " + "word " * 90} for n in range(5)])
    looked(path)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{path}: reader: alpaca (recognised from 5 rows: question, answer)"
    assert lines[1] == "objective: sft (supervised fine-tuning: the model learns to reply like this)"
    assert lines[4] == "  user       a\\nb\\x1b[31m"
    assert len(lines[5]) == 80
    assert lines[5].endswith("..")
    assert len([line for line in lines if line.startswith("  assistant")]) == 3


def test_a_document_is_no_reply_of_an_assistant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tales.txt").write_text("Once upon a time.\n\nThe end.\n")
    looked(str(tmp_path / "tales.txt"))
    printed = capsys.readouterr().out
    assert "objective: sft (supervised fine-tuning: the model learns to continue such texts)\n" in printed
    assert "  document   Once upon a time.\n" in printed
    assert "assistant" not in printed


def test_compared_replies_are_called_chosen_and_rejected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    looked(write_rows(tmp_path, [PAIR]))
    assert "  user       Who won?\n  chosen     Ann.\n  rejected   No idea.\n" in capsys.readouterr().out


def test_what_is_not_known_is_refused_with_words_that_then_work(tmp_path: Path) -> None:
    path = write_rows(tmp_path, [{"die frage": "Wer?", "antwort": "Ann.", "nr": 7}])
    said = refusal(path)
    assert said.endswith("is not known; append --reader alpaca --field 'instruction=die frage' --field output=antwort")
    words = shlex.split(said.partition("; append ")[2])
    fields = dict(word.split("=") for word in words[3::2])
    assert fields == {"instruction": "die frage", "output": "antwort"}
    assert looked(path, GivenSource("", name="alpaca", fields=fields)).config.fields == fields


def test_preferences_are_not_imitated_unless_that_is_asked_for(tmp_path: Path) -> None:
    path = write_rows(tmp_path, [PAIR])
    said = refusal(path, objective="sft")
    assert "sft would imitate the rejected replies too; leave out --objective sft, or imitate the best: " in said
    assert said.endswith("--reader preference-text --option replies=best")
    taken = looked(path, GivenSource("", name="preference-text", options={"replies": "best"}), "sft")
    assert taken.config.options == {"replies": "best"}


def test_demonstrations_cannot_be_compared(tmp_path: Path) -> None:
    assert refusal(write_rows(tmp_path, [ROW]), objective="dpo").endswith(
        "the data need two replies to every prompt, such as columns prompt, chosen and rejected"
    )


def test_a_model_in_place_of_data_is_named(tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_text("{}")
    assert "this is a model, not data; give the data first" in refusal(str(tmp_path))


def test_a_file_in_which_no_row_can_be_read_shows_the_first(tmp_path: Path) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_text("{broken\n{broken\n")
    assert refusal(str(path)).startswith(f"{path}:1: no row can be read, and the first is wrong: not JSON")
    path.write_text("\n")
    assert "no records" in refusal(str(path))


@pytest.mark.parametrize(
    ("given", "objective", "says"),
    [
        (GivenSource("", fields={"instruction": "q"}), None, "--field needs the reader whose field it is"),
        (GivenSource("", name="alpacka"), None, "there is no reader 'alpacka'; known are dolly"),
        (None, "sftt", "there is no objective 'sftt'; use one of sft, dpo, reward, ppo"),
    ],
)
def test_words_that_are_not_known_are_refused(
    tmp_path: Path, given: GivenSource | None, objective: str | None, says: str
) -> None:
    assert says in refusal(write_rows(tmp_path, [ROW]), given, objective)


def test_without_a_model_the_data_are_shown_and_the_option_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_rows(tmp_path, [ROW])
    with pytest.raises(UsageError, match="the model is not named; add --model with a model directory, a run"):
        init(path)
    assert "  assistant  Ann.\n" in capsys.readouterr().out
    assert not (tmp_path / "mine.yaml").exists()


def test_an_output_that_is_no_recipe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'mine.txt' is not the name of a recipe; let it end in .yaml"):
        init(write_rows(tmp_path, [ROW]), output=Path("mine.txt"))


@pytest.mark.parametrize("name", ["a\x1bb.csv", "a\nb.csv", "a\udcffb.csv", "a\x7f.csv", "a\x85.csv"])
def test_a_name_that_no_recipe_can_hold_is_refused_before_the_file_is_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text("question,answer\na,b\n")
    with pytest.raises(UsageError) as refused:
        init(str(path))
    assert str(refused.value) == (
        f"{str(path)!a}: the name of the file has characters that a recipe cannot hold; rename it"
    )


def test_a_name_with_spaces_letters_of_any_script_and_quotes_is_fine(tmp_path: Path) -> None:
    path = tmp_path / "Große Frage's \u200b 質問.csv"
    path.write_text("question,answer\na,b\n")
    with pytest.raises(UsageError, match="because the model is not named"):
        init(str(path), output=tmp_path / "a.yaml")


def test_data_are_looked_at_before_torch_is_imported() -> None:
    code = "import sys, tunesmith.cli.init; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_next_commands_are_called_as_this_one_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    program = tmp_path / "venv" / "bin" / "tunesmith"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert program_name([str(program)]) == "venv/bin/tunesmith"
    monkeypatch.setenv("PATH", str(program.parent))
    assert program_name([str(program)]) == "tunesmith"
    assert program_name(["/x/tunesmith/cli/__main__.py"]) == "python -m tunesmith.cli"
