"""Decoding while tokens arrive: only whole characters and marks come out, and together they are the full decode."""

from __future__ import annotations

from tunesmith.text.tokenizer.codec import AS_IT_IS, Codec
from tunesmith.text.tokenizer.tokenizer import Tokenizer

_BROKEN = "\N{REPLACEMENT CHARACTER}"
_PATIENCE = 8  # pending tokens before a clean place to cut is looked for; a character has at most 4 bytes


class StreamDecoder:
    """``push`` every token, then ``finish``; the pieces joined equal ``codec.decode(tokenizer.decode(...))`` of all of them.

    The tokens of the last piece stay as context, because how a token reads may depend on the one before it. Tokens of
    a run of single bytes are held back until the run ends: whether such a run is valid shows only then. So is text that
    the codec cannot read before it knows what follows.
    """

    def __init__(self, tokenizer: Tokenizer, *, continuing: bool = False, codec: Codec = AS_IT_IS) -> None:
        self._tokenizer = tokenizer
        self._codec = codec
        self._unread = ""  # what the codec has not decoded yet
        self._continuing = continuing
        self._bytes = tokenizer.byte_tokens()
        self._context: list[int] = []
        self._context_length = 0
        self._pending: list[int] = []

    def push(self, token: int) -> str:
        """Take one token; returns the text that has become certain, often empty. Control tokens leave no trace."""
        self._unread += self._written(token)
        return self._read(self._codec.settled(self._unread))

    def finish(self) -> str:
        """The text that was held back."""
        self._unread += self._emit(len(self._pending), self._decode(self._pending)) if self._pending else ""
        return self._read(len(self._unread))

    def _read(self, count: int) -> str:
        ready, self._unread = self._unread[:count], self._unread[count:]
        return self._codec.decode(ready)

    def _written(self, token: int) -> str:
        """Take one token; returns the text that has become certain before the codec reads it."""
        if not self._tokenizer.is_text(token):
            return ""
        self._pending.append(token)
        if token in self._bytes:
            return ""
        text = self._decode(self._pending)
        if not text.endswith(_BROKEN):
            return self._emit(len(self._pending), text)
        if len(self._pending) < _PATIENCE:
            return ""
        for end in range(len(self._pending) - 4, len(self._pending) - 8, -1):
            head = self._decode(self._pending[:end])
            tail = self._tokenizer.decode(self._pending[end:], continuing=True)
            if head + tail == text:
                return self._emit(end, head)
        return ""

    def _decode(self, ids: list[int]) -> str:
        """The text of ``ids`` after the context."""
        return self._tokenizer.decode(self._context + ids, continuing=self._continuing)[self._context_length :]

    def _emit(self, count: int, text: str) -> str:
        self._context, self._pending = self._pending[:count], self._pending[count:]
        # From now on the context is itself what decoding starts with, and its own text is cut off again.
        self._context_length = len(self._tokenizer.decode(self._context, continuing=self._continuing))
        return text
