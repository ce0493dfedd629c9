"""Input and output of the chat: a terminal with prompt and colour, or plain lines if input or output is a pipe."""

from __future__ import annotations

import importlib.util
from typing import TextIO

from rich.console import Console
from rich.text import Text

from tunesmith.text.visible import visible

LINE_EDITING = importlib.util.find_spec("readline") is not None
if LINE_EDITING:
    import readline  # noqa: F401  (adds line editing and history to ``input``)

CONTINUE = "\\"  # at the end of a typed line: the message continues on the next line


class Terminal:
    """Reads messages and writes replies, notices and errors; control characters are written in visible form.

    interactive: whether both input and output are a terminal. If so, notices are written between the replies; otherwise
    they are written to ``errors``, so that ``output`` has nothing but replies.
    """

    def __init__(self, source: TextIO, output: TextIO, errors: TextIO) -> None:
        self.interactive = source.isatty() and output.isatty()
        self._source, self._output = source, output
        self._console = Console(
            file=output if self.interactive else errors, highlight=False, markup=False, emoji=False, soft_wrap=True
        )

    def read(self) -> str | None:
        """The next message or command; None at the end of input. Raises KeyboardInterrupt.

        In a terminal a line that ends with a backslash is continued on the next line; in a pipe each line is a message.
        """
        if not self.interactive:
            line = self._source.readline()
            return line.rstrip("\r\n") if line else None
        lines = [self._typed("> ")]
        while lines[-1] is not None and lines[-1].endswith(CONTINUE):
            lines[-1] = lines[-1][: -len(CONTINUE)]
            lines.append(self._typed(". "))
        return "\n".join(line for line in lines if line is not None) if lines[0] is not None else None

    def _typed(self, prompt: str) -> str | None:
        try:
            return input(self._coloured(prompt))
        except EOFError:
            self.write("\n")
            return None

    def _coloured(self, prompt: str) -> str:
        """The prompt in colour; the marks enclose characters that have no width for the line editor."""
        if self._console.color_system is None:
            return prompt
        start, end = "\x1b[1;36m", "\x1b[0m"
        return f"\001{start}\002{prompt}\001{end}\002" if LINE_EDITING else f"{start}{prompt}{end}"

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
