"""Streaming decoder: it returns only complete characters, and all its pieces together are the full decode."""

from __future__ import annotations

from tunesmith.text.tokenizer.codec import IDENTITY, Codec
from tunesmith.text.tokenizer.tokenizer import Tokenizer

_BROKEN = "\N{REPLACEMENT CHARACTER}"
_MAX_PENDING = 8  # pending tokens before a place to split them is searched for; a character has at most 4 bytes


class StreamDecoder:
    """Decodes token by token: ``push`` every token, then ``finish``.

    The returned pieces joined equal ``codec.decode(tokenizer.decode(...))`` of all tokens. The tokens of the last piece
    are kept as context, because the text of a token may depend on the token before it. Tokens for single bytes are
    pending until another token ends their run, because only then it is known whether they are valid UTF-8. Text that
    the codec cannot decode yet is pending too.

    tokenizer, codec: decode the tokens.
    continuing: see ``Tokenizer.encode_many``.
    """

    def __init__(self, tokenizer: Tokenizer, *, continuing: bool = False, codec: Codec = IDENTITY) -> None:
        self._tokenizer = tokenizer
        self._codec = codec
        self._undecoded = ""  # text that the codec has not decoded yet
        self._continuing = continuing
        self._bytes = tokenizer.byte_tokens()
        self._context: list[int] = []
        self._context_length = 0
        self._pending: list[int] = []

    def push(self, token: int) -> str:
        """Add one token and return the text that is final now, often empty. Control tokens are left out."""
        self._undecoded += self._decode_next(token)
        return self._take(self._codec.count_decodable(self._undecoded))

    def finish(self) -> str:
        """Return the pending text."""
        self._undecoded += self._emit(len(self._pending), self._decode(self._pending)) if self._pending else ""
        return self._take(len(self._undecoded))

    def _take(self, count: int) -> str:
        ready, self._undecoded = self._undecoded[:count], self._undecoded[count:]
        return self._codec.decode(ready)

    def _decode_next(self, token: int) -> str:
        """Add one token and return the text that is final now, before the codec decodes it."""
        if not self._tokenizer.is_text(token):
            return ""
        self._pending.append(token)
        if token in self._bytes:
            return ""
        text = self._decode(self._pending)
        if not text.endswith(_BROKEN):
            return self._emit(len(self._pending), text)
        if len(self._pending) < _MAX_PENDING:
            return ""
        # A character has at most 4 bytes, so some end within the 4 tokens before the last 4 is between two characters.
        for end in range(len(self._pending) - 4, len(self._pending) - _MAX_PENDING, -1):
            head = self._decode(self._pending[:end])
            tail = self._tokenizer.decode(self._pending[end:], continuing=True)
            if head + tail == text:
                return self._emit(end, head)
        return ""

    def _decode(self, ids: list[int]) -> str:
        """Return the text of ``ids`` after the context."""
        return self._tokenizer.decode(self._context + ids, continuing=self._continuing)[self._context_length :]

    def _emit(self, count: int, text: str) -> str:
        self._context, self._pending = self._pending[:count], self._pending[count:]
        # Decoding starts with the new context from now on; its own text is removed from the result.
        self._context_length = len(self._tokenizer.decode(self._context, continuing=self._continuing))
        return text
