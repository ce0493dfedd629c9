"""One request and its answer: the body is read with limits, and an answer ends when its client has gone."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any, TypeVar

from pydantic import BaseModel
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from tunesmith.serve.app.gate import refusal_messages, too_large
from tunesmith.serve.app.settings import ServerLimits
from tunesmith.serve.openai.json_body import read_body
from tunesmith.serve.openai.replies import Answering
from tunesmith.serve.refusals import RefusedRequest, failed

Schema = TypeVar("Schema", bound=BaseModel)
DONE = b"data: [DONE]\n\n"
GONE = 499
"""The status of an answer that nobody reads, as nginx counts it."""


async def read_request(request: Request, schema: type[Schema], limits: ServerLimits) -> Schema:
    """The body of a request as the object of a schema. Raises RefusedRequest."""
    try:
        async with asyncio.timeout(limits.body_time):
            body = bytearray()
            async for part in request.stream():
                body += part
                if len(body) > limits.body:
                    raise too_large(limits.body)
    except TimeoutError:
        raise RefusedRequest(408, "The body did not arrive in time.", code="timeout") from None
    except ClientDisconnect:
        raise RefusedRequest(GONE, "The client closed the connection.", code="client_closed") from None
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
    log: gets the text of an error that is not a client's.
    named: whether the events of a stream have names and no end mark, as in the responses API.
    """

    def __init__(self, answering: Answering, log: Callable[[str], None], *, named: bool = False) -> None:
        super().__init__()
        self._answering, self._log, self._named = answering, log, named

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
            await AsciiJson(await self._answering.whole())(scope, _nothing, send)
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
            async for event in self._answering.events():
                yield self._encode(event)
                begun = True
        except RefusedRequest as refused:
            if not begun:
                raise
            yield self._encode({"type": "error", **refused.as_dict()["error"]} if self._named else refused.as_dict())
        except Exception:
            self._log(traceback.format_exc())
            if not begun:
                raise
            yield self._encode(failed().as_dict())

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
