"""What every request passes before a route sees it: limits, host, origin, key and content type."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from tunesmith.serve.app.counters import RequestCounters
from tunesmith.serve.app.settings import ServerLimits, ServerSettings
from tunesmith.serve.log_entry import Log, failure_entry
from tunesmith.serve.refusals import RefusedRequest, failed

Scope = MutableMapping[str, Any]
AsgiMessage = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[AsgiMessage]]
Send = Callable[[AsgiMessage], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN_PATHS = ("/healthz",)
"""Paths that need no key, and are answered however much there is to do."""
LARGE_PATHS = ("/api/import",)
"""Paths whose bodies have the larger limit."""
HOST = re.compile(r"(?P<name>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?")
JSON = re.compile(rb"application/json\s*(;\s*charset\s*=\s*\"?utf-8\"?\s*)?", re.IGNORECASE)
VERSIONS = ("1.0", "1.1")
LARGEST_PIECE = 65_536  # bytes; of a larger one the server waits until the client has read most of it
WITH_BODY = ("POST", "PUT", "PATCH", "DELETE")
CLOSING = (408, 413, 431)  # what is left of such a request is not read
PREFLIGHT = (
    (b"access-control-allow-methods", b"GET, POST"),
    (b"access-control-allow-headers", b"authorization, content-type"),
    (b"access-control-max-age", b"600"),
)
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)


class Gate:
    """Refuses requests that must not reach a route, answers errors, and adds the headers of every answer.

    inner: what answers the requests that pass.
    settings: of the server.
    counters: count the answers.
    log: gets the errors that are not a client's.
    """

    def __init__(self, inner: AsgiApp, settings: ServerSettings, counters: RequestCounters, log: Log) -> None:
        self.inner, self._settings, self._counters, self._log = inner, settings, counters, log
        self._hosts = settings.hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.inner(scope, receive, send)
            return
        write_time = self._settings.limits.write_time
        answer = _CountedAnswer(scope, send, self._counters, self._allowed_origin(scope), write_time)
        self._counters.open += 1
        try:
            if self._check(scope):
                await self.inner(scope, receive, answer.send)
            else:
                await answer.allow()
        except RefusedRequest as refused:
            await answer.refuse(refused)
        except Exception as error:
            what = "A request could not be answered."
            self._log(failure_entry(error, what, method=scope["method"], path=scope["path"]))
            await answer.refuse(failed())
        finally:
            self._counters.open -= 1

    def _check(self, scope: Scope) -> bool:
        """Whether the request is for a route; otherwise it asks whether an allowed web page may send one.

        Raises RefusedRequest.
        """
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        limits = self._settings.limits
        if scope["http_version"] not in VERSIONS:
            raise RefusedRequest(400, "The server speaks HTTP/1.0 and HTTP/1.1.", code="invalid_http")
        if len(headers) > limits.headers or sum(map(sum, (map(len, pair) for pair in headers))) > limits.header_bytes:
            raise RefusedRequest(431, "The request has too many headers, or too long ones.", code="headers_too_large")
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > limits.url:
            raise RefusedRequest(414, "The URL is too long.", code="url_too_long")
        self._check_host(_values(headers, b"host"))
        self._check_origin(headers)
        if self._allowed_origin(scope) and scope["method"] == "OPTIONS":
            return False
        self._check_key(scope["path"], headers)
        self._check_content(scope["method"], headers, body_limit(scope["path"], limits))
        if self._counters.open > limits.requests and scope["path"] not in OPEN_PATHS:
            what = "The server answers too many requests. Send the request again in a moment."
            raise RefusedRequest(503, what, code="too_many_requests", retry_after=1)
        return True

    def _check_host(self, values: list[bytes]) -> None:
        match = HOST.fullmatch(values[0].decode("latin-1")) if len(values) == 1 else None
        if match is None or match["name"].strip("[]").lower() not in self._hosts:
            what = "This server does not answer to the name in the Host header; --allowed-host adds one."
            raise RefusedRequest(421, what, code="wrong_host")

    def _check_origin(self, headers: list[tuple[bytes, bytes]]) -> None:
        origins = [value.decode("latin-1") for value in _values(headers, b"origin")]
        cross_site = any(value.strip().lower() == b"cross-site" for value in _values(headers, b"sec-fetch-site"))
        allowed = bool(origins) and all(origin in self._settings.allowed_origins for origin in origins)
        own = _values(headers, b"host")[0].decode("latin-1").lower()
        same = all(origin.lower() in (f"http://{own}", f"https://{own}") for origin in origins)
        if not allowed and (cross_site or not same):
            raise RefusedRequest(403, "Requests of other web pages are refused.", code="cross_site")

    def _check_key(self, path: str, headers: list[tuple[bytes, bytes]]) -> None:
        key = self._settings.key
        if key is None or path in OPEN_PATHS:
            return
        values = _values(headers, b"authorization")
        if len(values) != 1 or not key.matches(_given_key(values[0])):
            raise RefusedRequest(401, "The API key is missing or wrong.", code="invalid_api_key")

    def _check_content(self, method: str, headers: list[tuple[bytes, bytes]], limit: int) -> None:
        lengths = _values(headers, b"content-length")
        has_body = any(value != b"0" for value in lengths) or bool(_values(headers, b"transfer-encoding"))
        if any(not value.isdigit() or int(value) > limit for value in lengths):
            raise too_large(limit)
        kinds = _values(headers, b"content-type")
        if method in WITH_BODY and (has_body or kinds) and not (len(kinds) == 1 and JSON.fullmatch(kinds[0])):
            raise RefusedRequest(415, "The content type must be application/json.", code="unsupported_media_type")
        if has_body and any(value.lower() != b"identity" for value in _values(headers, b"content-encoding")):
            raise RefusedRequest(415, "The body must not be compressed.", code="unsupported_media_type")

    def _allowed_origin(self, scope: Scope) -> bytes | None:
        """The origin that may read the answer; None for no other web page."""
        origins = _values(scope["headers"], b"origin")
        allowed = [value for value in origins if value.decode("latin-1") in self._settings.allowed_origins]
        return allowed[0] if len(origins) == 1 and allowed else None


class _CountedAnswer:
    """Passes an answer on, with the headers of every answer, and counts it.

    write_time: seconds for a piece that the client does not read.
    """

    def __init__(
        self, scope: Scope, send: Send, counters: RequestCounters, origin: bytes | None, write_time: float
    ) -> None:
        self._scope, self._send, self._counters, self._origin = scope, send, counters, origin
        self._write_time = write_time
        self._began = False

    async def send(self, message: AsgiMessage) -> None:
        """Send one message of the answer (ASGI)."""
        if message["type"] == "http.response.start":
            self._began = True
            given = list(message.get("headers", ()))
            names = {name.lower() for name, _ in given}
            added = [pair for pair in HEADERS if pair[0] not in names]
            if self._origin is not None:
                added += [(b"access-control-allow-origin", self._origin), (b"vary", b"origin")]
            message = {**message, "headers": given + added}
            route = self._scope.get("route")
            self._counters.count(getattr(route, "path_format", "other"), message["status"])
        last = message["type"] == "http.response.body" and not message.get("more_body")
        if last and len(message.get("body", b"")) > LARGEST_PIECE:  # the end waits until the client has read the rest
            await self._pass_on({**message, "more_body": True})
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self._pass_on(message)

    async def _pass_on(self, message: AsgiMessage) -> None:
        """Send a message; the connection of a client that does not read is closed, so that it ends like any other."""
        try:
            async with asyncio.timeout(self._write_time):
                await self._send(message)
        except TimeoutError:
            self._scope.get("state", {}).get("abort", lambda: None)()

    async def allow(self) -> None:
        """Answer that a web page may send its request."""
        await self.send({"type": "http.response.start", "status": 204, "headers": list(PREFLIGHT)})
        await self.send({"type": "http.response.body", "body": b""})

    async def refuse(self, refused: RefusedRequest) -> None:
        """Answer with an error, unless an answer has begun."""
        if not self._began:
            is_api = self._scope["path"].startswith("/v1")
            for message in refusal_messages(refused, "Bearer" if is_api else 'Basic realm="tunesmith"'):
                await self.send(message)


def refusal_messages(refused: RefusedRequest, challenge: str = "Bearer") -> list[AsgiMessage]:
    """The messages of an answer with an error. challenge: how a client that lacks the key may give it."""
    body = json.dumps(refused.as_dict()).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if refused.retry_after is not None:
        headers.append((b"retry-after", str(refused.retry_after).encode()))
    if refused.status == 401:
        headers.append((b"www-authenticate", challenge.encode()))
    if refused.status in CLOSING:
        headers.append((b"connection", b"close"))
    start = {"type": "http.response.start", "status": refused.status, "headers": headers}
    return [start, {"type": "http.response.body", "body": body}]


def body_limit(path: str, limits: ServerLimits) -> int:
    """The bytes that the body of a request for a path may have."""
    return limits.import_body if path in LARGE_PATHS else limits.body


def too_large(limit: int) -> RefusedRequest:
    """The refusal of a body that is too long."""
    return RefusedRequest(413, f"The body is larger than {limit} bytes.", code="body_too_large")


def _values(headers: list[tuple[bytes, bytes]], wanted: bytes) -> list[bytes]:
    """The values of a header. Names are in lower case."""
    return [value for name, value in headers if name == wanted]


def _given_key(value: bytes) -> bytes:
    """The key in a header ``Authorization``: a bearer token, or the password of a browser's dialog."""
    scheme, _, rest = value.partition(b" ")
    if scheme.lower() == b"bearer":
        return rest.strip()
    if scheme.lower() == b"basic":
        try:
            return base64.b64decode(rest.strip(), validate=True).partition(b":")[2]
        except binascii.Error:
            return b""
    return b""
