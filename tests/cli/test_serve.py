"""`serve` on the command line: what it refuses before anything is loaded, and what reaches the server."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.apps.sampled_models import write_causal
from tunesmith.cli import feedback as feedback_command
from tunesmith.cli import main as command_line
from tunesmith.cli import serve as serve_command
from tunesmith.serve.app.place import server_place
from tunesmith.serve.app.settings import ServerSettings

KEY = "0123456789abcdef"


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What would be served."""
    found: list[Any] = []
    monkeypatch.setattr(
        serve_command, "load_heavy_part", lambda part: lambda *words, **named: found.append((words, named))
    )
    monkeypatch.delenv("TUNESMITH_API_KEY", raising=False)
    return found


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> object:
    monkeypatch.setattr(sys, "argv", ["tunesmith", "serve", *map(str, words)])
    with pytest.raises(SystemExit) as caught:
        command_line.main()
    return caught.value.code


def test_models_settings_and_key_reach_the_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, served: list[Any]
) -> None:
    write_causal(tmp_path / "one")
    monkeypatch.setenv("TUNESMITH_API_KEY", KEY)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    words = [
        "--host",
        "0.0.0.0",
        "--port",
        0,
        "--allowed-host",
        "a.local",
        "--allowed-origin",
        "https://b.org",
        "--docs",
    ]
    assert run(monkeypatch, tmp_path / "one", f"two={tmp_path / 'one'}", *words) == 0
    ((paths, place), named) = served[0]
    settings = place.settings
    assert paths == {"one": str(tmp_path / "one"), "two": str(tmp_path / "one")}
    assert (settings.host, settings.port, settings.docs) == ("0.0.0.0", 0, True)
    assert (settings.allowed_hosts, settings.allowed_origins) == (("a.local",), ("https://b.org",))
    assert settings.key.matches(KEY.encode())
    assert (place.data, named) == (tmp_path / "tunesmith" / "chat", {"runs": None, "format": None})


def test_what_another_server_uses_is_refused_before_anything_is_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, served: list[Any]
) -> None:
    write_causal(tmp_path / "one")
    with server_place(ServerSettings(port=0), tmp_path / "chat") as place:
        port = place.listener.getsockname()[1]
        for words, code, message in (
            (["--port", port, "--data", tmp_path / "other"], 64, f"port {port} of 127.0.0.1 cannot be used"),
            (["--port", 0, "--data", tmp_path / "chat"], 76, "another server uses these conversations"),
        ):
            assert run(monkeypatch, tmp_path / "one", *words) == code
            assert message in capsys.readouterr().err
    assert not served
    assert run(monkeypatch, tmp_path / "one", "--port", port, "--data", tmp_path / "chat") == 0


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "example.org"])
def test_an_address_that_others_can_reach_needs_a_key(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, served: list[Any], host: str
) -> None:
    write_causal(tmp_path / "one")
    assert run(monkeypatch, tmp_path / "one", "--host", host) == 78
    assert "TUNESMITH_API_KEY" in capsys.readouterr().err
    monkeypatch.setenv("TUNESMITH_API_KEY", "short")
    assert run(monkeypatch, tmp_path / "one", "--host", host) == 78
    assert not served


def test_what_cannot_be_served_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, served: list[Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    reward = tmp_path / "judge"
    reward.mkdir()
    (reward / "config.json").write_text(json.dumps({"architectures": ["LlamaForSequenceClassification"]}))
    write_causal(tmp_path / "one")
    for words, code, message in (
        ([tmp_path / "none"], 66, "there is no such directory"),
        ([reward], 64, "this is a reward model: it scores replies and cannot write any"),
        ([tmp_path / "one", f"one={reward}"], 64, "two models would be called 'one'"),
        ([], 66, "runs: there is no such directory; name a model"),
    ):
        assert run(monkeypatch, *words) == code
        assert message in capsys.readouterr().err
    assert not served


def test_feedback_reads_the_directory_that_serve_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Any] = []
    monkeypatch.setattr(feedback_command, "load_part", lambda part: lambda *words, **named: found.append(words))
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    for words in (["-o", "f.jsonl"], ["here", "-o", "f.jsonl"]):
        monkeypatch.setattr(sys, "argv", ["tunesmith", "feedback", *words])
        with pytest.raises(SystemExit):
            command_line.main()
    assert found == [(Path("/data/tunesmith/chat"), Path("f.jsonl")), (Path("here"), Path("f.jsonl"))]
