"""Commands that are printed to be copied: a long one is continued on further lines, as a shell reads it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

WIDTH = 80
INDENT, FURTHER = "  ", "      "


def command_lines(words: Sequence[object]) -> Iterator[str]:
    """The lines of a command, of 80 columns where no word is longer; nothing in them is escaped yet.

    words: the command and its arguments, which are quoted where a shell needs it. An option and its value may be one
        tuple of words; they stay on one line.
    """
    groups = [
        " ".join(shlex.quote(str(part)) for part in (word if isinstance(word, tuple) else (word,))) for word in words
    ]
    line = INDENT + groups[0]
    for number, group in enumerate(groups[1:], 2):
        reserved = 0 if number == len(groups) else len(" \\")
        if len(line) + 1 + len(group) + reserved > WIDTH:
            yield f"{line} \\"
            line = FURTHER + group
        else:
            line += f" {group}"
    yield line
