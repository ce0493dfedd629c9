"""Input and output of the chat: a terminal with prompt and colour, or plain lines if input or output is a pipe."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TextIO

from prompt_toolkit import PromptSession
from prompt_toolkit.data_structures import Size
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import DummyHistory, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.key_binding.key_processor import KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.utils import is_dumb_terminal
from rich.console import Console
from rich.text import Text

from tunesmith.apps.chat_history import HistoryFile
from tunesmith.text.visible import visible

CONTINUE = "\\"  # at the end of a typed line: the message continues on the next line
PROMPT, CONTINUED = "> ", ". "
PROMPT_STYLE = "bold ansicyan"


class Terminal:
    """Reads messages and writes replies, notices and errors; control characters are written in visible form.

    interactive: whether both input and output are a terminal. If so, notices are written between the replies, wrapped
    at words; otherwise they are written to ``errors``, so that ``output`` has nothing but replies.
    history: a file for what is typed in a terminal; None keeps it until the chat ends.
    """

    def __init__(self, source: TextIO, output: TextIO, errors: TextIO, history: Path | None = None) -> None:
        self.interactive = source.isatty() and output.isatty()
        self._source, self._output = source, output
        self._console = Console(
            file=output if self.interactive else errors,
            highlight=False,
            markup=False,
            emoji=False,
            soft_wrap=not self.interactive,
        )
        self._editor = LineEditor(output, history) if self.interactive else None

    def read(self) -> str | None:
        """The next message or command; None at the end of input. Raises KeyboardInterrupt.

        In a terminal, several pasted lines are one message, and a line that ends with a backslash is continued on the
        next line. In a pipe each line is a message.
        """
        if self._editor is None:
            line = self._source.readline()
            return line.rstrip("\r\n") if line else None
        lines = [self._editor.read(PROMPT)]
        while lines[-1] is not None and lines[-1].endswith(CONTINUE):
            lines[-1] = lines[-1][: -len(CONTINUE)]
            lines.append(self._editor.read(CONTINUED))
        return "\n".join(line for line in lines if line is not None) if lines[0] is not None else None

    def ask(self, question: str) -> str:
        """The answer to a question, without white space around it; empty at the end of input.

        In a pipe the next line is the answer. Raises KeyboardInterrupt.
        """
        if self._editor is None:
            self.notice(question.rstrip())
            return self._source.readline().strip()
        return (self._editor.ask(question) or "").strip()

    @property
    def styled(self) -> bool:
        """Whether the terminal can underline."""
        return self.interactive and self._console.is_terminal and not self._console.is_dumb_terminal

    def can_write(self, text: str) -> bool:
        """Whether the encoding of the output has these characters."""
        return self._encodable(text) == text

    def print(self, text: Text) -> None:
        """Write text with styles, in which nothing is a control character."""
        self._console.print(text)

    def write(self, text: str) -> None:
        """Write a part of a reply at once, without colour."""
        self._output.write(self._encodable(visible(text)))
        self._output.flush()

    def write_gap(self) -> None:
        """Write an empty line between turns, if a person reads them."""
        if self.interactive:
            self.write("\n")

    def notice(self, text: str) -> None:
        """Write a message of the program about the conversation."""
        self._console.print(Text(self._encodable(visible(text)), style="dim"))
        self._report_history()

    def error(self, text: str) -> None:
        """Write an error message."""
        self._console.print(Text(self._encodable(visible(text)), style="red"))

    def _report_history(self) -> None:
        fault = self._editor.take_fault() if self._editor is not None else None
        if fault is not None:
            self.notice(f"(what you type is not kept for the next chat: {fault})")

    def _encodable(self, text: str) -> str:
        """The text with characters that the encoding of the output lacks written as escapes."""
        encoding = self._output.encoding or "utf-8"
        return text.encode(encoding, "backslashreplace").decode(encoding)


class LineEditor:
    """Reads lines that a person types, with editing and history; pasted lines arrive as one text.

    history: the file of the history; None keeps it in memory.

    A terminal that cannot move its cursor (TERM=dumb) has plain input, where each pasted line is a separate text.
    """

    def __init__(self, output: TextIO, history: Path | None) -> None:
        self._output = output
        self._history = HistoryFile(history) if history is not None else None
        self._session: PromptSession[str] | None = None
        self._questions: PromptSession[str] | None = None
        if not is_dumb_terminal():
            screen, keys = _open_screen(output), _keys()
            kept = self._history or InMemoryHistory()
            self._session = PromptSession(output=screen, enable_suspend=True, key_bindings=keys, history=kept)
            self._questions = PromptSession(output=screen, key_bindings=keys, history=DummyHistory())

    def read(self, prompt: str) -> str | None:
        """The next text; None at the end of input. Raises KeyboardInterrupt."""
        return self._read_with(self._session, prompt)

    def ask(self, question: str) -> str | None:
        """The answer to a question, which is not part of the history; otherwise as ``read``."""
        return self._read_with(self._questions, question)

    def take_fault(self) -> str | None:
        """Why what is typed is not kept, once; None if it is."""
        if self._history is None:
            return None
        fault, self._history.fault = self._history.fault, None
        return fault

    def _read_with(self, session: PromptSession[str] | None, prompt: str) -> str | None:
        try:
            if session is not None:
                return session.prompt(FormattedText([(PROMPT_STYLE, prompt)]))
            return self._read_plain(prompt)
        except EOFError:
            return None

    def _read_plain(self, prompt: str) -> str:
        try:
            return input(prompt)
        except (EOFError, KeyboardInterrupt):
            self._output.write("\n")
            raise


def _keys() -> KeyBindings:
    """Alt-Enter begins a new line. Colour codes in what is typed look like events of a mouse, which are ignored."""
    bindings = KeyBindings()
    bindings.add(Keys.Vt100MouseEvent)(lambda event: None)
    bindings.add(Keys.Escape, Keys.Enter)(_insert_line)
    return bindings


def _insert_line(event: KeyPressEvent) -> None:
    event.current_buffer.insert_text("\n")


def _open_screen(output: TextIO) -> Vt100_Output:
    """The screen of the line editor. It is never asked where its cursor is, because some terminals do not answer."""

    def size() -> Size:
        columns, rows = os.get_terminal_size(output.fileno())
        return Size(rows=rows or 24, columns=columns or 80)

    depth = ColorDepth.from_env()  # without colours where NO_COLOR is set
    return Vt100_Output(output, size, term=os.environ.get("TERM"), default_color_depth=depth, enable_cpr=False)
