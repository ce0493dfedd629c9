"""What the thread of a model is asked for, and what it sends back."""

from __future__ import annotations

from dataclasses import dataclass

from tunesmith.generate.requests import FinishReason, ReplyRequest
from tunesmith.generate.row_sampler import TokenLogProbability
from tunesmith.generate.stop_texts import ReplyReader
from tunesmith.serve.engine.clients import ANYBODY, JobClient


@dataclass(frozen=True, slots=True)
class ReplyJob:
    """One reply that a client waits for.

    request: what is generated; without stop texts.
    reader: decodes the reply: the renderer of the model, or a ``PlainReader``.
    stop: texts that end the reply, which is cut before them; none is empty.
    client: whom the reply is for. Clients take turns when rows become free.
    """

    request: ReplyRequest
    reader: ReplyReader
    stop: tuple[str, ...] = ()
    client: JobClient = ANYBODY

    @property
    def tokens(self) -> int:
        """The largest number of tokens that it may come to hold."""
        return len(self.request.prompt) + self.request.sampling.max_new_tokens


@dataclass(frozen=True, slots=True)
class ScoreJob:
    """The log-probabilities of the tokens of a text.

    ids: the text.
    alternatives: the number of most likely tokens that are wanted with each of them.
    client: as of ``ReplyJob``.
    """

    ids: tuple[int, ...]
    alternatives: int
    client: JobClient = ANYBODY

    @property
    def tokens(self) -> int:
        """See ``ReplyJob``."""
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class ReplyToken:
    """One token of a reply.

    id: the token id.
    log_probability: where the request asked for it.
    in_text: whether it belongs to the text of the reply; false for a stop token, and behind the cut at a stop text.
    """

    id: int
    log_probability: TokenLogProbability | None
    in_text: bool


@dataclass(frozen=True, slots=True)
class ReplyEvent:
    """What is new about a reply.

    text: the text that is added; may be empty.
    tokens: the tokens that belong to it.
    finish: why the reply ended; None before its end.
    """

    text: str
    tokens: tuple[ReplyToken, ...]
    finish: FinishReason | None = None


def join_events(events: list[ReplyEvent]) -> ReplyEvent:
    """One event with all that several consecutive ones have."""
    if len(events) == 1:
        return events[0]
    tokens = tuple(token for event in events for token in event.tokens)
    return ReplyEvent("".join(event.text for event in events), tokens, events[-1].finish)
