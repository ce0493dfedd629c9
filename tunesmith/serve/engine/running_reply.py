"""A reply while it is generated: which of its tokens and how much of its text can be sent."""

from __future__ import annotations

from dataclasses import dataclass

from tunesmith.generate.reply_text import ReplyText
from tunesmith.generate.row_sampler import TokenLogProbability
from tunesmith.generate.scheduler import GeneratedToken
from tunesmith.serve.engine.jobs import ReplyEvent, ReplyJob, ReplyToken


@dataclass(frozen=True, slots=True)
class _HeldToken:
    """A token that is not sent yet. place: the number of decoded characters before it."""

    id: int
    log_probability: TokenLogProbability | None
    place: int


class RunningReply:
    """Collects the tokens of one reply. Tokens are sent with the text that they are a part of."""

    def __init__(self, job: ReplyJob) -> None:
        self._text = ReplyText(job.reader, job.stop)
        self._held: list[_HeldToken] = []

    @property
    def stopped(self) -> bool:
        """Whether the text has a stop text, so that the reply has ended."""
        return self._text.stopped

    def add(self, token: GeneratedToken) -> ReplyEvent | None:
        """What is new with the next token; None for nothing."""
        text, is_stop = self._text, token.finish == "stop"
        self._held.append(_HeldToken(token.id, token.log_probability, text.decoded))
        if is_stop:
            piece = text.finish(token.id)
        else:
            piece = text.add(token.id)
            piece += text.finish() if token.finish is not None and not text.stopped else ""
        finish = "stop" if text.stopped else token.finish
        if finish is None:
            return self._release(piece)
        tokens = [ReplyToken(each.id, each.log_probability, each.place < text.end) for each in self._held]
        if is_stop:
            tokens[-1] = ReplyToken(token.id, token.log_probability, False)
        self._held = []
        return ReplyEvent(piece, tuple(tokens), finish)

    def _release(self, piece: str) -> ReplyEvent | None:
        count = 0
        while count < len(self._held) and self._held[count].place < self._text.place:
            count += 1
        if not piece and not count:
            return None
        tokens = tuple(ReplyToken(each.id, each.log_probability, True) for each in self._held[:count])
        self._held = self._held[count:]
        return ReplyEvent(piece, tokens)
