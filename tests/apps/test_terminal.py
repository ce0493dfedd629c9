"""The chat in a pseudo terminal, as a separate process."""

from __future__ import annotations

import json
import os
import re
import select
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.apps.api_server import ApiAnswers, api_server, delta

pty = pytest.importorskip("pty", reason="pseudo terminals exist on POSIX systems only")

REPOSITORY = Path(__file__).resolve().parent.parent.parent
PROGRAM = "import sys; from tunesmith.apps.chat import run; run(sys.argv[1], seed=3)"
SERVED = """
import sys
from pathlib import Path
from tunesmith.apps.chat_loop import ChatFiles
from tunesmith.apps.served_chat import run
run(sys.argv[1], files=ChatFiles(history=Path(sys.argv[2])))
"""
PATIENCE = 120  # seconds until a step that does not come fails the test


class Typist:
    """A person at a terminal: types, and reads until something appears."""

    def __init__(self, *words: str | Path, program: str = PROGRAM, **environment: str) -> None:
        self.process, self.terminal = pty.fork()
        if self.process == 0:
            os.chdir(REPOSITORY)
            values = {"PATH": os.environ.get("PATH", ""), "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1", **environment}
            os.execve(sys.executable, [sys.executable, "-c", program, *map(str, words)], values)
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self.terminal, text.encode())

    def wait_for(self, text: str) -> str:
        """Read until ``text`` appears in the new output; returns the new output up to its end."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.seen:
            ready, _, _ = select.select([self.terminal], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"{text!r} did not appear after {self.seen[-300:]!r}"
            read = self._read()
            assert read, f"the chat ended before {text!r} appeared: {self.seen[-300:]!r}"
            self.seen += read
        end = self.seen.index(text) + len(text)
        found, self.seen = self.seen[:end], self.seen[end:]
        return found

    def leave(self) -> int:
        """End of input (Ctrl-D); the exit status."""
        self.type("\x04")
        while self._read():
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])

    def _read(self) -> str:
        try:
            return os.read(self.terminal, 65536).decode("utf-8", "replace")
        except OSError:  # on Linux, the program has closed its end
            return ""


@pytest.fixture(scope="module")
def typist(model_directory: Path) -> Iterator[Typist]:
    """A chat with a plain terminal, waiting for the first message."""
    person = Typist(model_directory, TERM="dumb")
    person.wait_for("Ctrl-D ends the chat")
    person.wait_for("> ")
    yield person
    os.close(person.terminal)


def test_a_person_can_chat_interrupt_and_leave(typist: Typist) -> None:
    typist.type("Hello\r")
    assert "\x1b" not in typist.wait_for("stopped at 8 tokens")
    typist.wait_for("> ")

    typist.type("one\\\r")
    typist.wait_for(". ")
    typist.type("two\r")
    typist.wait_for("stopped at 8 tokens")
    typist.wait_for("> ")

    typist.type("/set max_new_tokens=1900 temperature=9\r")
    typist.wait_for("max_new_tokens=1900)")
    typist.wait_for("> ")
    typist.type("Talk\r")
    typist.wait_for("Talk\r\n")
    shown = typist.wait_for("\\x")  # the random text has control characters, which are escaped
    typist.type("\x03")
    shown += typist.wait_for("(stopped)")
    assert "\x1b" not in shown
    typist.wait_for("> ")

    typist.type("half a line")
    typist.wait_for("half a line")
    time.sleep(0.5)  # the terminal echoes before the program waits for a line; a Ctrl-C in between is lost
    typist.type("\x03")
    typist.wait_for("(Ctrl-D ends the chat)")
    typist.wait_for("> ")
    typist.type("/set temprature=1\r")
    typist.wait_for("did you mean 'temperature'?")
    typist.wait_for("> ")
    assert typist.leave() == 0


BEGIN_PASTE, END_PASTE = "\x1b[200~", "\x1b[201~"
COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-7][0-9;]*m")


@pytest.mark.parametrize("environment", [{}, {"NO_COLOR": "1"}], ids=["colour", "NO_COLOR"])
def test_pasted_lines_are_one_message_and_only_a_prompt_with_colours_has_some(
    single_turn_directory: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    person = Typist(single_turn_directory, TERM="xterm-256color", **environment)
    shown = person.wait_for("\x1b[?2004h")  # from here on the terminal marks what is pasted
    shown += person.wait_for("> ")
    person.type(f"{BEGIN_PASTE}one\rtwo\r\nthree{END_PASTE}\r")
    shown += person.wait_for("stopped at 8 tokens")
    person.wait_for("> ")
    person.type(f"/save {tmp_path / 'chat.json'}\r")
    shown += person.wait_for("(saved 2 messages")
    (message, _) = json.loads((tmp_path / "chat.json").read_text())["messages"]
    assert message == {"role": "user", "content": "one\ntwo\nthree"}
    assert bool(COLOUR.search(shown)) == (not environment)
    assert "/context TEXT" in shown
    person.wait_for("> ")
    assert person.leave() == 0
    os.close(person.terminal)


def _endless() -> Iterator[bytes]:
    """A reply that goes on until the client closes the connection."""
    for number in range(10**6):
        yield delta(f"word{number} ")
        time.sleep(0.01)


def _open(url: str, history: Path) -> Typist:
    person = Typist(url, history, program=SERVED, TERM="xterm-256color", NO_COLOR="1")
    person.wait_for("Ctrl-D ends the chat")
    person.wait_for("> ")
    return person


def test_a_chat_with_a_server_is_interrupted_and_its_lines_come_back_in_the_next_one(tmp_path: Path) -> None:
    history = tmp_path / "state" / "history.jsonl"
    answers = ApiAnswers(_endless)
    with api_server(answers) as url:
        person = _open(url, history)
        person.type("first\x1b\rsecond\r")  # Alt-Enter between the two
        person.wait_for("word3 ")
        person.type("\x03")
        person.wait_for("(stopped)")
        assert answers.left.wait(PATIENCE), "the server goes on"
        person.wait_for("> ")
        answers.parts = lambda: [delta("A", "stop"), delta("B", "stop", 1)]
        person.type("/drafts 2\r")
        person.wait_for("nothing to keep the reply as it was: ")
        person.type("3\r")
        person.wait_for("'3' is not the number of a draft; write 1 to 2")
        person.wait_for("nothing to keep the reply as it was: ")
        person.type("2\r")
        person.wait_for("(draft 2 is the reply)")
        person.wait_for("> ")
        assert person.leave() == 0
        os.close(person.terminal)
        said = [(message["role"], message["content"]) for message in answers.asked[-1]["messages"]]
        assert said == [("user", "first\nsecond")]
        assert [json.loads(line) for line in history.read_text().splitlines()] == ["first\nsecond", "/drafts 2"]

        person = _open(url, history)
        person.type("\x1b[A\x1b[A\r")  # two arrows up
        person.wait_for("A\r\n")
        person.wait_for("> ")
        assert person.leave() == 0
        os.close(person.terminal)
    assert answers.asked[-1]["messages"] == [{"role": "user", "content": "first\nsecond"}]
