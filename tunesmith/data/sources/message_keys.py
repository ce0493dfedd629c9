"""Names by which a list of objects is known as the messages of a conversation, in any of the usual spellings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SPEAKER_KEYS, TEXT_KEYS = ("role", "from", "speaker", "author"), ("content", "value", "text", "message")

FIXED_KEYS = (frozenset(("role", "content")), frozenset(("from", "value")))
"""Keys that all messages of a conversation have, and records do not."""

SPEAKERS = frozenset(
    (
        *("system", "user", "human", "customer", "assistant", "gpt", "chatgpt", "bing", "bard", "ai", "bot"),
        *("model", "agent", "tool", "function_call", "observation"),
    )
)
"""Names of speakers in small letters. Other objects with an author and a text may be documents."""


def is_message(value: Mapping[str, Any]) -> bool:
    """Whether an object is a message of a conversation and no record."""
    if any(names <= value.keys() for names in FIXED_KEYS):
        return True
    speakers = [value[key] for key in SPEAKER_KEYS if key in value]
    has_text = any(key in value for key in TEXT_KEYS)
    return has_text and any(isinstance(name, str) and name.lower() in SPEAKERS for name in speakers)
