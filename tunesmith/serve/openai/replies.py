"""Replies as the API's answers need them: collected to their end, or several of them as one stream."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from tunesmith.generate.requests import FinishReason
from tunesmith.serve.engine.jobs import ReplyEvent, ReplyToken, join_events
from tunesmith.serve.engine.stream import ReplyStream

FINISH: dict[FinishReason, Literal["stop", "length"]] = {"stop": "stop", "length": "length", "context": "length"}


class Answering(Protocol):
    """One request that is being answered: either as a whole, or as a stream of events."""

    streamed: bool

    async def whole(self) -> dict[str, Any]:
        """The answer at once. Raises RefusedRequest."""
        ...

    def events(self) -> AsyncIterator[dict[str, Any]]:
        """The answer piece by piece. Raises RefusedRequest, also after the first pieces."""
        ...

    def close(self) -> None:
        """End what is still generated."""
        ...


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """What all parts of an answer have.

    id, created, model: as in OpenAI's answers.
    """

    id: str
    created: int
    model: str

    def as_dict(self, kind: str) -> dict[str, Any]:
        """The fields of an answer or of a chunk. kind: its ``object``."""
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def new_head(prefix: str, model: str) -> AnswerHead:
    """The head of a new answer. prefix: of its id."""
    return AnswerHead(f"{prefix}-{secrets.token_hex(12)}", int(time.time()), model)


async def collect(stream: ReplyStream) -> ReplyEvent:
    """The whole reply as one event. Raises RefusedRequest."""
    return join_events([event async for event in stream])


async def collect_all(streams: Sequence[ReplyStream]) -> list[ReplyEvent]:
    """As ``collect``, for several replies."""
    return [await collect(stream) for stream in streams]


async def merge(streams: Sequence[ReplyStream]) -> AsyncIterator[tuple[int, ReplyEvent]]:
    """(number of the stream, event) of all streams, as they arrive. Raises RefusedRequest."""
    if len(streams) == 1:
        async for event in streams[0]:
            yield 0, event
        return
    pending = {asyncio.ensure_future(anext(stream)): number for number, stream in enumerate(streams)}
    try:
        while pending:
            done, _ = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for future in sorted(done, key=lambda each: pending[each]):
                number, event = pending.pop(future), future.result()
                yield number, event
                if event.finish is None:
                    pending[asyncio.ensure_future(anext(streams[number]))] = number
    finally:
        for future in pending:
            future.cancel()


def close_all(streams: Sequence[ReplyStream]) -> None:
    """End all replies."""
    for stream in streams:
        stream.cancel()


def usage(prompt: int, tokens: int) -> dict[str, int]:
    """``usage``: ids of the prompts, each counted once, and all ids that were generated."""
    return {"prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt + tokens}


def shown_tokens(event: ReplyEvent) -> list[ReplyToken]:
    """The tokens of the text of a reply, without a stop token."""
    return [token for token in event.tokens if token.in_text]
