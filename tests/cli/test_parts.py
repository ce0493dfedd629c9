"""The commands pass on what is given on the command line, and nothing else."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, get_args

import pytest

from tunesmith.apps.chat_loop import ChatFiles
from tunesmith.apps.rejection_files import REJECTION_KINDS
from tunesmith.cli import chat as chat_command
from tunesmith.cli import demo as demo_command
from tunesmith.cli import lazy
from tunesmith.cli import main as command_line
from tunesmith.cli import score as score_command
from tunesmith.cli.lazy import load_heavy_part, load_part
from tunesmith.cli.words import Chosen


class Part:
    """Replaces a heavy part and records its call."""

    def __init__(self) -> None:
        self.named: list[str] = []
        self.call: tuple[tuple[Any, ...], dict[str, Any]] | None = None

    def load(self, part: str) -> Any:
        self.named.append(part)
        return self

    def __call__(self, *positional: Any, **named: Any) -> None:
        self.call = (positional, named)


@pytest.fixture
def part(monkeypatch: pytest.MonkeyPatch) -> Part:
    replacement = Part()
    monkeypatch.setattr(chat_command, "load_heavy_part", replacement.load)
    monkeypatch.setattr(demo_command, "load_part", replacement.load)
    monkeypatch.setattr(score_command, "load_part", replacement.load)
    return replacement


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> object:
    monkeypatch.setattr(sys, "argv", ["tunesmith", *words])
    with pytest.raises(SystemExit) as caught:
        command_line.main()
    return caught.value.code


def test_a_line_says_that_pytorch_is_loaded_also_where_no_terminal_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load_heavy_part("tunesmith.errors:TunesmithError")
    assert capsys.readouterr().err == ""  # it is loaded already
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(lazy, "keep_freed_memory", lambda: None)
    load_heavy_part("tunesmith.errors:TunesmithError")
    assert capsys.readouterr().err == "loading PyTorch ...\n"


@pytest.fixture
def chats(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[object, ...]]:
    """The calls of the two parts that chat, which do nothing."""
    calls: list[tuple[object, ...]] = []
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    def load(name: str) -> object:
        if name.endswith(":run"):
            return lambda *given, **named: calls.append((name, *given, named))
        return load_part(name)

    monkeypatch.setattr(chat_command, "load_part", load)
    monkeypatch.setattr(chat_command, "load_heavy_part", load)
    return calls


def test_chat_passes_settings_as_values(
    monkeypatch: pytest.MonkeyPatch, chats: list[tuple[object, ...]], tmp_path: Path
) -> None:
    words = ["runs/x", "temperature=0.7", "do_sample=false", "--seed", "3", "--format", "dolly", "--save", "talk.json"]
    assert run(monkeypatch, "chat", *words) == 0
    sampling = {"temperature": 0.7, "do_sample": False}
    files = ChatFiles(Path("talk.json"), tmp_path / "tunesmith" / "chat-history.jsonl")
    expected = {"format": "dolly", "system": None, "sampling": sampling, "seed": 3, "files": files}
    assert chats == [("tunesmith.apps.chat:run", "runs/x", expected)]


@pytest.mark.parametrize(("words", "model"), [([], None), (["dpo"], "dpo")])
def test_chat_with_a_server_needs_no_model_and_takes_the_key_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, chats: list[tuple[object, ...]], tmp_path: Path, words: list[str], model: str
) -> None:
    monkeypatch.setenv("TUNESMITH_API_KEY", "secret")
    assert run(monkeypatch, "chat", *words, "top_p=0.9", "--url", "http://127.0.0.1:8000", "--system", "Be brief.") == 0
    (call,) = chats
    assert call[:2] == ("tunesmith.apps.served_chat:run", "http://127.0.0.1:8000")
    named = {"model": model, "key": "secret", "key_name": "TUNESMITH_API_KEY", "system": "Be brief.", "seed": None}
    files = ChatFiles(None, tmp_path / "tunesmith" / "chat-history.jsonl")
    assert call[2] == {**named, "sampling": {"top_p": 0.9}, "files": files}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name the directory of a run: `tunesmith chat RUN`"),
        (["--url", "http://127.0.0.1:8000", "--format", "dolly"], "a server has its own prompt format"),
    ],
)
def test_chat_needs_either_a_model_or_a_server(
    monkeypatch: pytest.MonkeyPatch,
    chats: list[tuple[object, ...]],
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    assert run(monkeypatch, "chat", *words) == 64
    assert message in capsys.readouterr().err
    assert chats == []


def test_score_passes_its_inputs_and_a_reader_only_if_one_is_named(monkeypatch: pytest.MonkeyPatch, part: Part) -> None:
    assert run(monkeypatch, "score", "runs/reward", "a.jsonl", "b.jsonl", "-o", "scores.jsonl", "--skip") == 0
    assert part.named == ["tunesmith.apps.score:run"]
    settings = {
        "output": Path("scores.jsonl"),
        "reading": None,
        "format": None,
        "skip": True,
        "kind": "scores",
        "keep": None,
    }
    assert part.call == (("runs/reward", ["a.jsonl", "b.jsonl"]), settings)


def test_everything_that_can_be_written_of_reports_is_a_word_of_score() -> None:
    assert get_args(Chosen) == tuple(REJECTION_KINDS)


def test_score_passes_reader_options_as_values(monkeypatch: pytest.MonkeyPatch, part: Part) -> None:
    words = ["--reader", "oasst", "--option", "keep=rankings", "--option", "reviewed=false", "--field", "prompt=root"]
    words += ["--ignore", "images"]
    calls: list[tuple[object, ...]] = []
    monkeypatch.setattr(score_command, "load_part", lambda name: lambda *given, **named: calls.append((name, *given)))
    assert run(monkeypatch, "score", "runs/reward", "a.jsonl", *words) == 0
    options, fields = {"keep": "rankings", "reviewed": False}, {"prompt": "root"}
    assert calls[0] == ("tunesmith.apps.score:ReaderChoice", "oasst", fields, options, ("images",))


def test_a_setting_without_a_value_is_a_usage_error(
    monkeypatch: pytest.MonkeyPatch, part: Part, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "chat", "runs/x", "hello") == 64
    assert "'hello' is not a setting; write it as in temperature=0.7" in capsys.readouterr().err
    assert part.call is None


def test_demo_passes_its_directory(monkeypatch: pytest.MonkeyPatch, part: Part) -> None:
    assert run(monkeypatch, "demo", "--directory", "elsewhere") == 0
    assert part.named == ["tunesmith.playground.demo:run"]
    assert part.call == ((Path("elsewhere"),), {})


@pytest.mark.parametrize(("option", "stages"), [("--full", "FULL"), ("--encoder-decoder", "ENCODER_DECODER")])
def test_demo_passes_other_stages(monkeypatch: pytest.MonkeyPatch, part: Part, option: str, stages: str) -> None:
    assert run(monkeypatch, "demo", option) == 0
    assert part.named == [f"tunesmith.playground.stages:{stages}", "tunesmith.playground.demo:run"]
    assert part.call == ((Path("runs/demo"),), {"stages": part})


def test_demo_trains_either_all_causal_models_or_an_encoder_decoder(
    monkeypatch: pytest.MonkeyPatch, part: Part, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "demo", "--full", "--encoder-decoder") == 64
    assert "--full and --encoder-decoder cannot be combined; leave one of them out" in capsys.readouterr().err
    assert part.named == []


@pytest.mark.parametrize("command", ["chat", "demo", "score", "recipes", "show", "schema"])
def test_every_command_has_help_without_its_heavy_part(
    monkeypatch: pytest.MonkeyPatch, part: Part, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert run(monkeypatch, command, "--help") == 0
    assert capsys.readouterr().out.startswith(f"Usage: tunesmith {command} ")
    assert part.named == []
