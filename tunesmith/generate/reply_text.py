"""The text of a reply that is generated token by token, as far as it can be shown, and the stop texts that end it."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.generate.stop_texts import ReplyReader, cut_at_stop
from tunesmith.text.formats.format import ParsedReply
from tunesmith.text.tokenizer.codec import IDENTITY, Codec
from tunesmith.text.tokenizer.stream import StreamDecoder
from tunesmith.text.tokenizer.tokenizer import Tokenizer


class PlainReader:
    """Reads a reply as the continuation of a text, character by character, without a prompt format.

    tokenizer, codec: decode the tokens.
    """

    def __init__(self, tokenizer: Tokenizer, codec: Codec = IDENTITY) -> None:
        self._tokenizer, self._codec = tokenizer, codec

    def parse(self, ids: Sequence[int]) -> ParsedReply:
        """See ``ReplyReader``."""
        return ParsedReply(self._codec.decode(self._tokenizer.decode(ids, continuing=True)), False)

    def stream(self) -> StreamDecoder:
        """See ``ReplyReader``."""
        return StreamDecoder(self._tokenizer, continuing=True, codec=self._codec)


class ReplyText:
    """Turns ids into text that can be shown at once: whole characters, and white space only with text after it.

    White space is held because a prompt format may strip it at the ends of a reply. Whether it strips the beginning
    is seen once the first word is complete. What may be the beginning of a stop text is held as well.

    reader: decodes the reply.
    stop: texts that end it; none is empty.
    ids: the ids so far.
    shown: the text that was returned so far.
    stopped: whether the text has a stop text; no further id is added then.
    decoded: the number of characters that were decoded so far.
    end: how many of them belong to the text of the reply; known when the reply has ended.
    """

    def __init__(self, reader: ReplyReader, stop: Sequence[str] = ()) -> None:
        self._reader, self._decoder, self._stop = reader, reader.stream(), tuple(stop)
        self.ids: list[int] = []
        self.shown, self.stopped = "", False
        self._held = ""  # decoded text that is not shown yet
        self.decoded = self.end = 0

    @property
    def place(self) -> int:
        """The number of decoded characters before those that are held."""
        return self.decoded - len(self._held)

    def add(self, token: int) -> str:
        """The text that can be shown after this id; may be empty."""
        self.ids.append(token)
        new = self._decoder.push(token)
        self._held += new
        self.decoded += len(new)
        if self._stop and any(each in self._held for each in self._stop):
            self.stopped = cut_at_stop(self._reader.parse(self.ids).text, self._stop)[1]
            if self.stopped:
                return self.finish()
        return self._show(self._held[: len(self._held) - self._longest_beginning()].rstrip())

    def finish(self, *stop: int) -> str:
        """The rest of the text of the whole reply, after its stop token if there is one."""
        whole, cut = cut_at_stop(self._reader.parse([*self.ids, *stop]).text, self._stop)
        self.stopped = self.stopped or cut
        rest = whole[len(self.shown) :] if whole.startswith(self.shown) else ""
        removed = 0 if self.shown else len(self._held) - len(self._held.lstrip())  # white space that was stripped
        self.end = self.place + len(rest) + (0 if rest[:1].isspace() else removed) if self.stopped else self.decoded + 1
        self.shown += rest
        return rest

    def _show(self, ready: str) -> str:
        """Return text from the beginning of what is held; at the beginning of a reply without what is stripped."""
        if not ready:
            return ""
        self._held = self._held[len(ready) :]
        if not self.shown and not self._reader.parse(self.ids).text[:1].isspace():
            ready = ready.lstrip()
        self.shown += ready
        return ready

    def _longest_beginning(self) -> int:
        """The length of the longest end of the held text with which a stop text begins."""
        longest = 0
        for each in self._stop:
            for length in range(min(len(each) - 1, len(self._held)), longest, -1):
                if self._held.endswith(each[:length]):
                    longest = length
                    break
        return longest
