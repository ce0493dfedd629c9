"""A conversation's surface: a terminal with prompt and colour, or plain lines when input or output is a pipe."""

from __future__ import annotations

import importlib.util
from typing import TextIO

from rich.console import Console
from rich.text import Text

from tunesmith.text.visible import visible

LINE_EDITING = importlib.util.find_spec("readline") is not None
if LINE_EDITING:
    import readline  # noqa: F401  (gives ``input`` its line editing and history)

CONTINUE = "\\"  # at the end of a typed line: the message goes on


class Terminal:
    """Where messages come from and replies go to.

    interactive: both ends are a terminal. Then notices appear among the replies; otherwise they go to ``errors`` so that
    ``output`` holds nothing but what the model said. Whatever is written goes through ``visible`` first.
    """

    def __init__(self, source: TextIO, output: TextIO, errors: TextIO) -> None:
        self.interactive = source.isatty() and output.isatty()
        self._source, self._output = source, output
        self._console = Console(
            file=output if self.interactive else errors, highlight=False, markup=False, emoji=False, soft_wrap=True
        )

    def read(self) -> str | None:
        """The next message or command; None at the end of input. KeyboardInterrupt passes through.

        In a terminal a line that ends in a backslash is continued by the next; from a pipe each line is one message.
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
            self.say("\n")
            return None

    def _coloured(self, prompt: str) -> str:
        """The prompt in colour; the marks tell the line editor which characters take no room."""
        if self._console.color_system is None:
            return prompt
        start, end = "\x1b[1;36m", "\x1b[0m"
        return f"\001{start}\002{prompt}\001{end}\002" if LINE_EDITING else f"{start}{prompt}{end}"

    def say(self, text: str) -> None:
        """What the model says, at once and uncoloured."""
        encoding = self._output.encoding or "utf-8"
        self._output.write(visible(text).encode(encoding, "backslashreplace").decode(encoding))
        self._output.flush()

    def gap(self) -> None:
        """An empty line between turns, where a person reads."""
        if self.interactive:
            self.say("\n")

    def notice(self, text: str) -> None:
        """What the program says about the conversation."""
        self._console.print(Text(visible(text), style="dim"))

    def fault(self, text: str) -> None:
        """What went wrong."""
        self._console.print(Text(visible(text), style="red"))
