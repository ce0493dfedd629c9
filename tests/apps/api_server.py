"""A server of OpenAI's API with answers that a test chooses, on a real socket."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODELS = {"object": "list", "data": [{"id": "one", "object": "model", "created": 1, "owned_by": "somebody"}]}


@dataclass
class ApiAnswers:
    """What the server answers, and what it was asked.

    parts: the bytes of an answer to a request for a reply, written one by one; the connection ends after them.
    kind: its content type.
    status: its status.
    models: the answer to `GET /v1/models`; None for status 404.
    asked: the requests for replies.
    left: set when a client has closed the connection before its answer was complete.
    """

    parts: Callable[[], Iterable[bytes]]
    kind: str = "text/event-stream"
    status: int = 200
    models: Any = field(default_factory=lambda: MODELS)
    asked: list[dict[str, Any]] = field(default_factory=list)
    left: threading.Event = field(default_factory=threading.Event)


def event(value: Any) -> bytes:
    """An event of a stream."""
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def delta(text: str | None = None, finish: str | None = None, index: int = 0) -> bytes:
    """An event with a piece of a reply."""
    return event({"choices": [{"index": index, "delta": {"content": text}, "finish_reason": finish}]})


@contextmanager
def api_server(answers: ApiAnswers) -> Iterator[str]:
    """The address of a server that gives these answers."""

    class _Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            """Nothing is printed."""

        def do_GET(self) -> None:
            body = json.dumps(answers.models).encode()
            self._head(404 if answers.models is None else 200, "application/json")
            self.wfile.write(body)

        def do_POST(self) -> None:
            answers.asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self._head(answers.status, answers.kind)
            try:
                for part in answers.parts():
                    self.wfile.write(part)
                    self.wfile.flush()
            except OSError:
                answers.left.set()

        def _head(self, status: int, kind: str) -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.end_headers()

    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join(10)
