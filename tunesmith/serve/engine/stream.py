"""The side of a reply that is in asyncio: an iterator over its events."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

from tunesmith.serve.engine.jobs import ReplyEvent, ReplyJob, join_events
from tunesmith.serve.refusals import RefusedRequest


class ReplyStream:
    """The events of one reply, in order; the last one has a finish reason.

    Iterating yields what has arrived since the last time as one event, so a slow reader gets fewer, larger pieces. It
    raises RefusedRequest if the reply cannot be completed. Whoever stops iterating earlier calls ``cancel``.

    job: what was asked for.
    cancel_job: removes the job from its thread.
    """

    def __init__(self, job: ReplyJob, cancel_job: Callable[[ReplyStream], None]) -> None:
        self.job, self._cancel_job = job, cancel_job
        self.loop = asyncio.get_running_loop()
        self._arrived: deque[ReplyEvent | RefusedRequest] = deque()
        self._ready = asyncio.Event()
        self._ended = False

    def deliver(self, event: ReplyEvent | RefusedRequest) -> None:
        """Add an event; called in the loop."""
        self._arrived.append(event)
        self._ready.set()

    def cancel(self) -> None:
        """End the reply. No further token of it is generated after the present step."""
        if not self._ended:
            self._ended = True
            self._cancel_job(self)

    def __aiter__(self) -> AsyncIterator[ReplyEvent]:
        return self

    async def __anext__(self) -> ReplyEvent:
        if self._ended:
            raise StopAsyncIteration
        while not self._arrived:
            self._ready.clear()
            await self._ready.wait()
        events = list[ReplyEvent]()
        while self._arrived:
            event = self._arrived[0]
            if isinstance(event, RefusedRequest):
                if events:
                    break  # what came before is delivered first
                self._ended = True
                raise event
            events.append(event)
            self._arrived.popleft()
        self._ended = events[-1].finish is not None
        return join_events(events)
