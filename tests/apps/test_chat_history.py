"""The history of what was typed: private, complete, of limited size, and never a reason to end a chat."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.apps import chat_history
from tunesmith.apps.chat_history import HistoryFile, history_path


def _entries(path: Path) -> list[str]:
    return list(HistoryFile(path).load_history_strings())


def test_entries_come_back_newest_first_and_only_the_user_can_read_them(tmp_path: Path) -> None:
    path = tmp_path / "state" / "tunesmith" / "history.jsonl"
    assert _entries(path) == []
    for text in ("one", "two\nlines", '"é\x1b'):
        HistoryFile(path).append_string(text)
    assert _entries(path) == ['"é\x1b', "two\nlines", "one"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    path.chmod(0o644)
    HistoryFile(path).append_string("three")
    assert path.stat().st_mode & 0o777 == 0o600


@settings(max_examples=25, deadline=None)
@given(content=st.binary(max_size=40), entry=st.text("a\n\\\ud83d\ude00é", min_size=1, max_size=4))
def test_any_file_is_read_and_extended(tmp_path_factory: pytest.TempPathFactory, content: bytes, entry: str) -> None:
    path = tmp_path_factory.getbasetemp() / "history.jsonl"
    path.write_bytes(content + b"\n")
    before = _entries(path)
    HistoryFile(path).append_string(entry)
    newest, *rest = _entries(path)
    assert rest == before
    newest.encode()  # no half of a character
    assert newest == entry or "\ud83d" in entry or "\ude00" in entry


def test_a_long_history_is_shortened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_history, "MOST_ENTRIES", 3)
    path = tmp_path / "history.jsonl"
    path.write_text("".join(json.dumps(str(number)) + "\n" for number in range(6)))
    path.chmod(0o644)
    assert _entries(path) == ["5", "4", "3"]
    assert [json.loads(line) for line in path.read_text().splitlines()] == ["3", "4", "5"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_reported_and_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    history = HistoryFile(tmp_path / "file" / "history.jsonl")
    assert list(history.load_history_strings()) == []
    history.append_string("one")
    assert "cannot write" in (history.fault or "")
    assert history.get_strings() == ["one"], "the arrow keys of this chat have it"


def test_the_file_is_in_the_state_directory_of_the_user() -> None:
    assert history_path({"XDG_STATE_HOME": "/var/me"}) == Path("/var/me/tunesmith/chat-history.jsonl")
