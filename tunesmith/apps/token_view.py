"""The tokens of a prompt in a terminal, as the check pages show them: borders, control tokens and white space."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby

from rich.text import Text

from tunesmith.text.tokens.show import ShownToken
from tunesmith.text.visible import visible

CONTROL, PLAIN = "magenta", ("cyan", "green")
MARKS: Mapping[str, str] = {" ": "·", "\t": "→", "\n": "↵\n"}
PLAIN_MARKS: Mapping[str, str] = {"\n": "\\n\n", "\t": "\\t"}
"""For an encoding without the others."""


def token_text(tokens: Sequence[ShownToken], can_write: Callable[[str], bool]) -> Text:
    """The tokens with colours. Every second one is underlined, so that borders are seen without colours too.

    can_write: whether the terminal has these characters.
    """
    marks = MARKS if can_write("".join(MARKS.values())) else PLAIN_MARKS
    shown, number = Text(), 0
    for role, turn in groupby(tokens, key=lambda token: token.role):
        if shown and not shown.plain.endswith("\n"):
            shown.append("\n")
        shown.append(f"{role}\n", style="bold")
        for token in turn:
            colour = f"bold {CONTROL}" if token.control else PLAIN[number % 2]
            style = f"{colour} underline" if number % 2 else colour
            shown.append("".join(marks.get(each, each) for each in visible(token.text)), style=style)
            number += 1
    return shown


def token_lines(tokens: Sequence[ShownToken]) -> str:
    """A line for each token: role, ids, and the text as a JSON string; control tokens have no quotation marks."""
    ids = [",".join(map(str, token.ids)) for token in tokens]
    role_width = max(len(token.role) for token in tokens)
    width = min(max(map(len, ids)), 12)
    texts = [_quoted(token) for token in tokens]
    return "\n".join(
        f"{token.role.ljust(role_width)}  {number.rjust(width)}  {text}"
        for token, number, text in zip(tokens, ids, texts, strict=True)
    )


def _quoted(token: ShownToken) -> str:
    text = json.dumps(token.text, ensure_ascii=False)
    return text[1:-1] if token.control else text
