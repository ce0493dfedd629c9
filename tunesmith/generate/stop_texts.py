"""Texts that end a reply: a reply ends as soon as its text contains one of them, and is cut before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tunesmith.text.formats.format import ParsedReply
from tunesmith.text.tokenizer.stream import StreamDecoder


class ReplyReader(Protocol):
    """What turns the ids of a reply into its text: a ``Renderer``."""

    def parse(self, ids: Sequence[int]) -> ParsedReply:
        """Decode the ids of a reply, or of its beginning."""
        ...

    def stream(self) -> StreamDecoder:
        """Return a decoder for the ids of a reply, one by one."""
        ...


def cut_at_stop(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    """(the text before the stop text that is complete first, whether there is one).

    Of several that end together the longest counts. So the result does not depend on the tokens of the text.
    """
    found = [(place + len(each), place) for each in stop if (place := text.find(each)) >= 0]
    return (text[: min(found)[1]], True) if found else (text, False)


class StopSearch:
    """Looks for stop texts in a reply that is generated token by token.

    The decoded pieces are searched, which is cheap. Only if they contain a stop text is the reply parsed as a whole,
    because its format may remove the text again, such as line breaks at the beginning.

    reader: decodes the reply.
    stop: the stop texts; none is empty.
    """

    def __init__(self, reader: ReplyReader, stop: Sequence[str]) -> None:
        self._reader, self._decoder, self._stop = reader, reader.stream(), stop
        self._longest = max(map(len, stop))
        self._ids: list[int] = []
        self._tail = ""  # the end of the decoded text, in which a stop text may have begun
        self._found = False  # whether the decoded text contains a stop text

    def add(self, token: int) -> bool:
        """Add the next id. Returns whether the text of the reply contains a stop text."""
        self._ids.append(token)
        self._tail += self._decoder.push(token)
        self._found = self._found or any(each in self._tail for each in self._stop)
        self._tail = self._tail[max(0, len(self._tail) - self._longest + 1) :]
        return self._found and cut_at_stop(self._reader.parse(self._ids).text, self._stop)[1]
