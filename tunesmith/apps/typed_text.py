"""Text that a person or a server has sent, as files can hold it."""

from __future__ import annotations


def valid_text(text: str) -> str:
    """The text with halves of characters joined; a half without the other one becomes U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
