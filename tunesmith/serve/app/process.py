"""The process of the server: uvicorn with time limits for connections, and an orderly end after a signal."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
from asyncio import TimerHandle, Transport
from types import FrameType
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from tunesmith.serve.app.factory import ServerParts
from tunesmith.serve.app.gate import AsgiApp
from tunesmith.serve.app.settings import ServerLimits
from tunesmith.serve.refusals import RefusedRequest

POLL = 0.05  # seconds


class LimitedProtocol(H11Protocol):
    """HTTP/1.1 on one connection, which is closed if its next request takes too long or there are too many."""

    limits = ServerLimits()
    _timer: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """See ``asyncio.Protocol``."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, "abort": transport.abort}
        if len(self.connections) > self.limits.connections:
            transport.abort()
        else:
            self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """See ``asyncio.Protocol``."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See ``asyncio.Protocol``."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_timer()
        else:
            self._expect_headers()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP with an error of the API, and close the connection."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()
            return
        refused = RefusedRequest(400, "This is not a valid HTTP request.", code="invalid_http")
        body = json.dumps(refused.as_dict()).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        response = h11.Response(status_code=400, headers=headers, reason=b"Bad Request")
        for event in (response, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _expect_headers(self) -> None:
        """Give the client a limited time for the headers of its next request."""
        if self._timer is None and not self.transport.is_closing():
            self._timer = self.loop.call_later(self.limits.header_time, self.transport.abort)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class ModelServer(uvicorn.Server):
    """Serves an application until a signal; then accepted replies may go on for a while, and the rest ends in order.

    parts: of the application.
    """

    def __init__(self, config: uvicorn.Config, parts: ServerParts) -> None:
        super().__init__(config)
        self._parts = parts
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See ``uvicorn.Server``."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See ``uvicorn.Server``, which waits for connections only: a reply of the chat page may have none."""
        await super().shutdown(sockets)
        while self._ending is not None and not self._ending.done():  # a second signal replaces it
            await asyncio.wait([self._ending])

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin the end of the process; a second signal ends all replies at once."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._begin_end)
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True

    def _begin_end(self) -> None:
        self._parts.stopping = True
        for model in self._parts.models:
            model.thread.refuse_new()
        if self._ending is None:
            self._ending = asyncio.ensure_future(self._end_replies(self._parts.settings.limits.stop_time))
        else:
            self._ending.cancel()
            self._ending = asyncio.ensure_future(self._end_replies(0.0))

    async def _end_replies(self, wait: float) -> None:
        end = asyncio.get_running_loop().time() + wait
        while asyncio.get_running_loop().time() < end and not all(m.thread.is_idle for m in self._parts.models):
            await asyncio.sleep(POLL)
        for close in self._parts.closers:
            await close()
        for model in self._parts.models:
            model.thread.end()


def new_server(app: AsgiApp, parts: ServerParts) -> ModelServer:
    """A server that is ready to run."""
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    limits = parts.settings.limits
    protocol = type("ConnectionProtocol", (LimitedProtocol,), {"limits": limits})
    options: dict[str, Any] = {"http": protocol, "ws": "none", "lifespan": "off", "loop": "asyncio"}
    config = uvicorn.Config(
        app,
        **options,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=limits.header_bytes + limits.url,
        timeout_keep_alive=int(limits.header_time),
        timeout_graceful_shutdown=int(limits.stop_time) + 3,
    )
    return ModelServer(config, parts)


def run_server(app: AsgiApp, parts: ServerParts, listener: socket.socket) -> None:
    """Serve until a signal. The threads of the models are started here and have ended afterwards."""
    for model in parts.models:
        model.thread.start()
    try:
        new_server(app, parts).run(sockets=[listener])
    finally:
        for model in parts.models:
            model.thread.end()
        for model in parts.models:
            model.thread.join(parts.settings.limits.stop_time)
