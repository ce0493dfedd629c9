"""Input and output of the chat: a terminal with prompt and colour, or plain lines if input or output is a pipe."""

from __future__ import annotations

import os
from typing import TextIO

from prompt_toolkit import PromptSession
from prompt_toolkit.data_structures import Size
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.keys import Keys
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.utils import is_dumb_terminal
from rich.console import Console
from rich.text import Text

from tunesmith.text.visible import visible

CONTINUE = "\\"  # at the end of a typed line: the message continues on the next line
PROMPT, CONTINUED = "> ", ". "
PROMPT_STYLE = "bold ansicyan"


class Terminal:
    """Reads messages and writes replies, notices and errors; control characters are written in visible form.

    interactive: whether both input and output are a terminal. If so, notices are written between the replies, wrapped
    at words; otherwise they are written to ``errors``, so that ``output`` has nothing but replies.
    """

    def __init__(self, source: TextIO, output: TextIO, errors: TextIO) -> None:
        self.interactive = source.isatty() and output.isatty()
        self._source, self._output = source, output
        self._console = Console(
            file=output if self.interactive else errors,
            highlight=False,
            markup=False,
            emoji=False,
            soft_wrap=not self.interactive,
        )
        self._editor = LineEditor(output) if self.interactive else None

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

    def write(self, text: str) -> None:
        """Write a part of a reply at once, without colour."""
        encoding = self._output.encoding or "utf-8"
        self._output.write(visible(text).encode(encoding, "backslashreplace").decode(encoding))
        self._output.flush()

    def write_gap(self) -> None:
        """Write an empty line between turns, if a person reads them."""
        if self.interactive:
            self.write("\n")

    def notice(self, text: str) -> None:
        """Write a message of the program about the conversation."""
        self._console.print(Text(visible(text), style="dim"))

    def error(self, text: str) -> None:
        """Write an error message."""
        self._console.print(Text(visible(text), style="red"))


class LineEditor:
    """Reads lines that a person types, with editing and history; pasted lines arrive as one text.

    A terminal that cannot move its cursor (TERM=dumb) has plain input, where each pasted line is a separate text.
    """

    def __init__(self, output: TextIO) -> None:
        self._output = output
        self._session: PromptSession[str] | None = None
        if not is_dumb_terminal():
            self._session = PromptSession(
                output=_open_screen(output), enable_suspend=True, key_bindings=_ignored_keys()
            )

    def read(self, prompt: str) -> str | None:
        """The next text; None at the end of input. Raises KeyboardInterrupt."""
        try:
            if self._session is not None:
                return self._session.prompt(FormattedText([(PROMPT_STYLE, prompt)]))
            return self._read_plain(prompt)
        except EOFError:
            return None

    def _read_plain(self, prompt: str) -> str:
        try:
            return input(prompt)
        except (EOFError, KeyboardInterrupt):
            self._output.write("\n")
            raise


def _ignored_keys() -> KeyBindings:
    """Colour codes in what is typed look like events of a mouse, which the editor does not follow."""
    bindings = KeyBindings()
    bindings.add(Keys.Vt100MouseEvent)(lambda event: None)
    return bindings


def _open_screen(output: TextIO) -> Vt100_Output:
    """The screen of the line editor. It is never asked where its cursor is, because some terminals do not answer."""

    def size() -> Size:
        columns, rows = os.get_terminal_size(output.fileno())
        return Size(rows=rows or 24, columns=columns or 80)

    depth = ColorDepth.from_env()  # without colours where NO_COLOR is set
    return Vt100_Output(output, size, term=os.environ.get("TERM"), default_color_depth=depth, enable_cpr=False)
