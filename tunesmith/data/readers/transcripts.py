"""Dialogues that are written as one text, with ``Human:`` and ``Assistant:`` at the beginning of a paragraph."""

from __future__ import annotations

import re

from tunesmith.errors import DataError
from tunesmith.text.tree import Message, Role

MARK = re.compile(r"(?:^|\n\n)(Human|Assistant): ?")
ROLES: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}


def parse_transcript(text: str, what: str) -> list[Message]:
    """The turns of a transcript; their texts are what is between the marks, without the space after a mark.

    text: of the transcript. A turn in it may be empty.
    what: its name in the message.
    Raises DataError where the text does not begin with a mark.
    """
    parts = MARK.split(text)
    if len(parts) < 3 or parts[0].strip():
        raise DataError(
            f"{what} is not a transcript", advice='it begins with "\\n\\nHuman: ", and turns with "\\n\\nAssistant: "'
        )
    return [Message(ROLES[name], body) for name, body in zip(parts[1::2], parts[2::2], strict=True)]
