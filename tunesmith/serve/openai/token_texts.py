"""Single tokens as text and as bytes, as log-probabilities show them."""

from __future__ import annotations

import re
from functools import lru_cache

from tunesmith.text.tokenizer.tokenizer import Tokenizer

BROKEN = "\N{REPLACEMENT CHARACTER}"
BYTE = re.compile(r"<0x([0-9A-F]{2})>")
CACHED = 65_536


def byte_characters() -> dict[str, int]:
    """The characters with which byte-level vocabularies write bytes (GPT-2's ``bytes_to_unicode``)."""
    printed = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    others = [byte for byte in range(256) if byte not in printed]
    return {chr(byte): byte for byte in printed} | {chr(256 + number): byte for number, byte in enumerate(others)}


class TokenTexts:
    """Text and bytes of every token of a vocabulary."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._names = {number: name for name, number in tokenizer.vocabulary.items()}
        self._characters = byte_characters()
        self.text = lru_cache(CACHED)(self._text)
        self.bytes = lru_cache(CACHED)(self._bytes)

    def legacy(self, token: int) -> str:
        """The token as the completions API writes it: its text, or ``bytes:\\xNN...`` for a part of a character."""
        text = self.text(token)
        if BROKEN not in text:
            return text
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in self.bytes(token) or [])

    def _text(self, token: int) -> str:
        """The text of a token; the name of a control token."""
        if not self._tokenizer.is_text(token):
            return self._names.get(token, "")
        return self._tokenizer.decode([token], continuing=True)

    def _bytes(self, token: int) -> list[int] | None:
        """The bytes of a token; None where they are not known."""
        text, name = self.text(token), self._names.get(token, "")
        if BROKEN not in text:
            return list(text.encode())
        if match := BYTE.fullmatch(name):
            return [int(match[1], 16)]
        if all(character in self._characters for character in name):
            return [self._characters[character] for character in name]
        return None
