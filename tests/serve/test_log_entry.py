"""The log of the server: one entry cannot look like two, whatever its texts are."""

from __future__ import annotations

import io
import json
import sys
from datetime import datetime

import pytest

from tests.text.hostile import hostile_texts
from tunesmith.serve.app.command import write_entry
from tunesmith.serve.log_entry import LogEntry, failure_entry
from tunesmith.text.visible import visible

FORGED = "wrong\n12:00:00 stopped\r\n\x1b[2J12:00:00 stopped\u2028x\x85y"
MOMENT = 1_800_000_000.0


def failure(text: str) -> LogEntry:
    try:
        try:
            raise ValueError(text)
        except ValueError as error:
            raise RuntimeError(text) from error
    except RuntimeError as error:
        return failure_entry(error, text, path=text)


@pytest.mark.parametrize("text", [FORGED, *hostile_texts()[::20]])
def test_a_text_begins_no_line(text: str) -> None:
    plain, entry = failure("wrong"), failure(text)
    lines = entry.as_lines(MOMENT)
    assert len(lines) == len(plain.as_lines(MOMENT))
    assert all(len(line.splitlines()) == 1 and line == visible(line) for line in lines)
    assert entry.as_json(MOMENT).isascii()
    assert len(entry.as_json(MOMENT).splitlines()) == 1
    found = json.loads(entry.as_json(MOMENT))
    assert (found["level"], found["message"], found["fields"]["path"]) == ("error", text, text)
    assert datetime.fromisoformat(found["time"]).timestamp() == MOMENT


def test_an_error_is_shown_with_its_cause_and_its_place() -> None:
    error = "\n".join(failure("wrong").error)
    assert error.index("ValueError: wrong") < error.index("RuntimeError: wrong")
    assert "test_log_entry.py" in error
    assert "raise RuntimeError(text) from error" in error


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_lines_and_a_file_gets_json(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = LogEntry("serving a at http://127.0.0.1:1/", fields={"address": "http://127.0.0.1:1"})
    for target, is_json in ((Screen(), False), (io.StringIO(), True)):
        monkeypatch.setattr(sys, "stderr", target)
        write_entry(entry)
        (line,) = target.getvalue().splitlines()
        if is_json:
            assert json.loads(line).keys() == {"time", "level", "message", "fields"}
            assert json.loads(line)["fields"] == entry.fields
        else:
            assert line[8:] == " serving a at http://127.0.0.1:1/"
            assert line[:8].replace(":", "").isdecimal()
