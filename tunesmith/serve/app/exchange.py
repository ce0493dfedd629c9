"""One request and its answer: the body is read with limits, and an answer ends when its client has gone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, TypeVar

from pydantic import BaseModel
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from tunesmith.serve.app.gate import body_limit, refusal_messages, too_large
from tunesmith.serve.app.settings import ServerLimits
from tunesmith.serve.log_entry import Log, failure_entry
from tunesmith.serve.openai.json_body import read_body
from tunesmith.serve.openai.replies import Answering
from tunesmith.serve.refusals import RefusedRequest, failed, timed_out

Schema = TypeVar("Schema", bound=BaseModel)
DONE = b"data: [DONE]\n\n"
GONE = 499
"""The status of an answer that nobody reads, as nginx counts it."""


async def read_request(request: Request, schema: type[Schema], limits: ServerLimits) -> Schema:
    """The body of a request as the object of a schema. Raises RefusedRequest."""
    most = body_limit(request.url.path, limits)
    try:
        async with asyncio.timeout(limits.body_time):
            body = bytearray()
            async for part in request.stream():
                body += part
                if len(body) > most:
                    raise too_large(most)
    except TimeoutError:
        raise RefusedRequest(408, "The body did not arrive in time.", code="timeout") from None
    except ClientDisconnect:
        raise RefusedRequest(GONE, "The client closed the connection.", code="client_closed") from None
    if len(body) > limits.body:  # which takes long enough to be noticed in the streams of others
        return await asyncio.to_thread(read_body, bytes(body), schema)
    return read_body(bytes(body), schema)


class AsciiJson(JSONResponse):
    """JSON in ASCII, so that half a character in a text cannot fail."""

    def render(self, content: Any) -> bytes:
        """See ``Response``."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


class RefusalAnswer(Response):
    """An error in the form of the API."""

    def __init__(self, refused: RefusedRequest) -> None:
        super().__init__()
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer (ASGI)."""
        for message in refusal_messages(self._refused):
            await send(message)


class LiveAnswer(Response):
    """The answer to a request whose reply is generated; it is cancelled when the client closes the connection.

    answering: what is generated.
    log: gets the errors that are not a client's.
    total_time: seconds until the answer is complete; after them it ends with an error.
    named: whether the events of a stream have names and no end mark, as in the responses API.
    """

    def __init__(self, answering: Answering, log: Log, total_time: float, *, named: bool = False) -> None:
        super().__init__()
        self._answering, self._log, self._named = answering, log, named
        self._end = asyncio.get_running_loop().time() + total_time

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer (ASGI)."""
        answer = asyncio.ensure_future(self._answer(scope, send))
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                await answer
        finally:
            self._answering.close()
            for task in (answer, gone):
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task

    async def _answer(self, scope: Scope, send: Send) -> None:
        if not self._answering.streamed:
            try:
                async with asyncio.timeout_at(self._end):
                    whole = await self._answering.whole()
            except TimeoutError:
                raise timed_out() from None
            await AsciiJson(whole)(scope, _nothing, send)
            return
        events = self._encoded()
        first = await anext(events)  # a reply that cannot begin is refused with a status
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": first, "more_body": True})
        async for event in events:
            await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b"" if self._named else DONE, "more_body": False})

    async def _encoded(self) -> AsyncIterator[bytes]:
        """The events as server-sent events; an error after the first one is the last one."""
        begun = False
        try:
            async for event in self._timed(self._answering.events()):
                yield self._encode(event)
                begun = True
        except RefusedRequest as refused:
            if not begun:
                raise
            yield self._encode({"type": "error", **refused.as_dict()["error"]} if self._named else refused.as_dict())
        except Exception as error:
            self._log(failure_entry(error, "A stream could not be continued."))
            if not begun:
                raise
            yield self._encode(failed().as_dict())

    async def _timed(self, events: AsyncIterator[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
        """The events until the end of the time. Raises RefusedRequest then."""
        while True:
            try:
                async with asyncio.timeout_at(self._end):
                    event = await anext(events)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise timed_out() from None
            yield event

    def _encode(self, event: dict[str, Any]) -> bytes:
        text = json.dumps(event, allow_nan=False, separators=(",", ":")).encode()
        name = b"event: %s\n" % str(event["type"]).encode() if self._named else b""
        return b"%sdata: %s\n\n" % (name, text)


async def _disconnected(receive: Receive) -> None:
    """Return when the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _nothing() -> dict[str, Any]:
    return {"type": "http.disconnect"}
