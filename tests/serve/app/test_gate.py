"""The gate: which requests reach a route, by host, origin, key, content type and size."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from tests.serve.served import LOG, MESSAGES, new_parts, run
from tunesmith.errors import ConfigurationError
from tunesmith.serve.app.command import body_reader, open_chat
from tunesmith.serve.app.counters import RequestCounters
from tunesmith.serve.app.factory import ServerParts, build_app
from tunesmith.serve.app.gate import WITH_BODY, AsgiApp, Gate
from tunesmith.serve.app.settings import ApiKey, ServerLimits, ServerSettings
from tunesmith.serve.chat.routes import ROUTES, chat_router
from tunesmith.serve.conversations.store import ConversationStore
from tunesmith.serve.engine.load import LoadLimits
from tunesmith.serve.engine.models import ServedModels
from tunesmith.serve.page.routes import page_router

KEY = "k3y-of-the-test-server"
BODY = json.dumps({"model": "chatml", "messages": MESSAGES, "max_tokens": 2}).encode()
CHAT = "/v1/chat/completions"
TYPE = {"content-type": "application/json"}


def send(
    parts: ServerParts, method: str, path: str, headers: Any, content: bytes = b"", app: AsgiApp | None = None
) -> httpx.Response:
    """The answer to a request. app: by default that of the parts, with the API only."""

    async def work(client: httpx.AsyncClient) -> httpx.Response:
        return await client.request(method, path, headers=headers, content=content)

    transport = httpx.ASGITransport(app) if app is not None else None  # type: ignore[arg-type]
    return run(work, parts, **({"transport": transport} if transport is not None else {}))


def status(parts: ServerParts, headers: Mapping[str, str], path: str = CHAT) -> int:
    return send(parts, "POST", path, {**TYPE, **headers}, BODY).status_code


@pytest.fixture
def keyed(models: ServedModels) -> ServerParts:
    origins = ("https://chat.example.org",)
    settings = ServerSettings(key=ApiKey.of(KEY), allowed_hosts=("models.local",), allowed_origins=origins, docs=True)
    return new_parts(models, settings)


HOSTS = {
    **dict.fromkeys(
        ("localhost", "localhost:8000", "LocalHost:1", "127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:9"), 200
    ),
    **dict.fromkeys(
        (
            *("evil.com", "localhost.evil.com", "127.0.0.1.nip.io", "localhost.", "127.0.0.1.", "0.0.0.0", "[::]", ""),
            *("user@localhost", "localhost@evil.com", "evil.com:80", "localhost:", "localhost:80:80", "localhost:port"),
            *("localhost/x", "localhost evil.com", "localhost,evil.com", "127.1", "2130706433", "0x7f000001", "[::1"),
            *("[::ffff:127.0.0.1]", "::1", "localhost#", "localhost?x", "xn--localhost", "LOCALHOST.EVIL.COM", "[::2]"),
            *("127.0.0.2", "10.0.0.1", "metadata.google.internal", "169.254.169.254", "localhost%00", "a" * 300),
        ),
        421,
    ),
}


def test_only_the_own_names_are_answered(parts: ServerParts) -> None:
    found = {host: status(parts, {"host": host}) for host in HOSTS}
    assert found == HOSTS
    two = send(parts, "GET", "/v1/models", [("host", "localhost"), ("host", "localhost")])
    assert two.status_code == 421


def test_a_further_name_is_answered_where_the_operator_allows_it(keyed: ServerParts) -> None:
    key = {"authorization": f"Bearer {KEY}"}
    assert status(keyed, {"host": "models.local:8000", **key}) == 200
    assert status(keyed, {"host": "other.local", **key}) == 421


def test_other_web_pages_are_refused_before_anything_is_generated(parts: ServerParts) -> None:
    before = parts.models.find("chatml").thread.load.prompts
    for origin in (
        "https://evil.com",
        "null",
        "http://localhost.evil.com:8000",
        "http://localhost:9999",
        "file://",
        "",
    ):
        assert status(parts, {"origin": origin}) == 403, origin
    for site in ("cross-site", "Cross-Site"):
        assert status(parts, {"sec-fetch-site": site}) == 403
        assert status(parts, {"sec-fetch-site": site, "origin": "http://localhost:8000"}) == 403
    assert parts.models.find("chatml").thread.load.prompts == before
    for site in ("same-origin", "none"):
        answer = send(parts, "GET", "/v1/models", {"sec-fetch-site": site})
        assert answer.status_code == 200
        assert not any(name.startswith("access-control") for name in answer.headers)
    assert status(parts, {"origin": "http://localhost:8000"}) == 200


def test_a_named_origin_may_read_answers_and_no_other_one(keyed: ServerParts) -> None:
    headers = {"origin": "https://chat.example.org", "sec-fetch-site": "cross-site"}
    asked = send(keyed, "OPTIONS", CHAT, {**headers, "access-control-request-method": "POST"})
    assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (204, "https://chat.example.org")
    answer = send(keyed, "POST", CHAT, {**TYPE, **headers, "authorization": f"Bearer {KEY}"}, BODY)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://chat.example.org"
    assert "access-control-allow-credentials" not in answer.headers
    assert send(keyed, "OPTIONS", CHAT, {**headers, "origin": "https://evil.com"}).status_code == 403


def walk(routes: Sequence[Any]) -> Iterator[APIRoute]:
    """The routes, and those of the routers that were included."""
    for route in routes:
        if isinstance(route, APIRoute):
            yield route
        else:
            yield from walk(route.original_router.routes)


def routes_of(parts: ServerParts, directory: Path) -> tuple[AsgiApp, list[tuple[str, str]]]:
    """The whole application, with chat and pages, and (method, path) of all its routes, with values in the paths."""
    store = ConversationStore.open(directory / "chat")
    service = open_chat(parts, store, directory, LoadLimits())
    app = build_app(parts, [chat_router(service, body_reader(parts)), page_router(directory)])
    assert isinstance(app, Gate)
    assert isinstance(app.inner, FastAPI)
    routes = list(walk(app.inner.routes))
    found = [(method, re.sub(r"\{[a-z:]+\}", "chatml", each.path)) for each in routes for method in each.methods]
    return app, found


def test_every_route_but_health_needs_the_key(keyed: ServerParts, tmp_path: Path) -> None:
    app, routes = routes_of(keyed, tmp_path)
    assert {("POST", CHAT), ("GET", "/openapi.json"), ("GET", "/"), ("GET", "/runs"), ("GET", "/runs/chatml")} <= {
        *routes
    }
    assert sum(path.startswith("/api/") for _, path in routes) == len(ROUTES) > 15
    others = [("GET", path) for path in ("/nothing", "/healthz/", "//healthz", "/HEALTHZ")]
    for method, path in [*routes, *others, ("DELETE", "/v1/models"), ("POST", "/")]:
        answer = send(keyed, method, path, TYPE, BODY if method in WITH_BODY else b"", app)
        assert answer.status_code == (200 if path == "/healthz" else 401), path
        assert answer.status_code == 200 or answer.headers["www-authenticate"].split()[0] in ("Bearer", "Basic")
    right = base64.b64encode(f"anyone:{KEY}".encode()).decode()
    for value in (f"Bearer {KEY}", f"bearer {KEY}", f"Basic {right}"):
        assert status(keyed, {"authorization": value}) == 200
    for value in ("", KEY, "Bearer", f"Bearer {KEY}x", f"Bearer {KEY[:-1]}", f"Token {KEY}", "Basic !", f"Basic {KEY}"):
        assert status(keyed, {"authorization": value}) == 401, value
    assert send(keyed, "GET", f"/v1/models?api_key={KEY}", {}).status_code == 401
    assert not any(KEY in str(entry) for entry in LOG)
    assert KEY not in repr(keyed.settings)


def test_the_routes_are_these_and_no_other_ones(parts: ServerParts) -> None:
    schema = send(parts, "GET", "/openapi.json", {}).json()
    assert {(method, path) for path, methods in schema["paths"].items() for method in methods} == {
        ("get", "/healthz"),
        ("get", "/metrics"),
        ("get", "/v1/models"),
        ("get", "/v1/models/{model}"),
        ("post", CHAT),
        ("post", "/v1/completions"),
        ("post", "/v1/responses"),
    }
    for path in ("/docs", "/redoc", "/v1", "/v1/embeddings", "/v1/files", "/v1/models/", "/load_model", "/static/x"):
        answer = send(parts, "GET", path, {})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found"), path
    refused = send(parts, "PUT", CHAT, TYPE, BODY)
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    assert send(new_parts(parts.models, ServerSettings()), "GET", "/openapi.json", {}).status_code == 404


CONTENT_TYPES = {
    **dict.fromkeys(("application/json", "application/json; charset=utf-8", 'Application/JSON;charset="UTF-8"'), 200),
    **dict.fromkeys(
        (
            *("", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/json"),
            *("application/json; charset=utf-16", "application/jsonx", "application/json, text/plain", "*/*", "json"),
            *("application/json; boundary=x", "text/plain; application/json", "application/octet-stream"),
            *("application/vnd.api+json", "application/xml", "application/json/x"),
        ),
        415,
    ),
}


def test_a_body_must_be_json_that_is_not_compressed(parts: ServerParts) -> None:
    found = {kind: send(parts, "POST", CHAT, {"content-type": kind}, BODY).status_code for kind in CONTENT_TYPES}
    assert found == CONTENT_TYPES
    assert status(parts, {"content-encoding": "gzip"}) == 415


def test_limits_of_sizes_are_exact(parts: ServerParts) -> None:
    limits = parts.settings.limits
    padded = BODY + b" " * (limits.body - len(BODY))
    assert send(parts, "POST", CHAT, TYPE, padded).status_code == 200
    long = send(parts, "POST", CHAT, TYPE, padded + b" ")
    assert (long.status_code, long.json()["error"]["code"]) == (413, "body_too_large")
    path = "/v1/models?x="
    assert send(parts, "GET", path + "y" * (limits.url - len(path) + 1), {}).status_code == 200
    assert send(parts, "GET", path + "y" * (limits.url - len(path) + 2), {}).status_code == 414
    own = len(send(parts, "GET", "/v1/models", {}).request.headers)
    many = {f"x-{number}": "1" for number in range(limits.headers - own)}
    assert send(parts, "GET", "/v1/models", many).status_code == 200
    assert send(parts, "GET", "/v1/models", {**many, "x": "1"}).status_code == 431
    assert send(parts, "GET", "/v1/models", {"x": "y" * limits.header_bytes}).status_code == 431


def test_a_body_without_a_length_is_limited_as_well(parts: ServerParts) -> None:
    async def work(client: httpx.AsyncClient) -> httpx.Response:
        async def content() -> Any:
            for _ in range(20):
                yield b" " * 100_000

        return await client.post(CHAT, content=content(), headers=TYPE)

    assert run(work, parts).status_code == 413


def test_every_answer_has_the_headers_that_protect_a_browser(parts: ServerParts) -> None:
    answers = [send(parts, "GET", path, {}) for path in ("/v1/models", "/nothing", "/healthz", "/metrics")]
    for answer in [*answers, send(parts, "GET", "/v1/models", {"host": "evil.com"})]:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", ""])
def test_an_address_that_others_can_reach_needs_a_key(host: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        ServerSettings(host=host)
    assert error.value.exit_code == 78
    assert ServerSettings(host=host, key=ApiKey.of(KEY)).key is not None
    with pytest.raises(ConfigurationError):
        ApiKey.of("short")
    for safe in ("127.0.0.1", "localhost", "::1", "127.0.0.9"):
        assert ServerSettings(host=safe).key is None
    with pytest.raises(ConfigurationError):
        ServerSettings(allowed_origins=("*",))


def test_the_metrics_are_in_the_format_of_prometheus(parts: ServerParts) -> None:
    status(parts, {})
    answer = send(parts, "GET", "/metrics", {})
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    values = dict(line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#"))
    assert float(values['tunesmith_tokens_generated_total{model="chatml"}']) >= 1
    assert float(values[f'tunesmith_http_requests_total{{route="{CHAT}",status="200"}}']) >= 1
    assert values['tunesmith_tokens_reserved{model="chatml"}'] == "0"
    kinds = [line.split()[2] for line in answer.text.splitlines() if line.startswith("# TYPE")]
    assert len(kinds) == len(set(kinds))


def test_health_is_answered_however_much_there_is_to_do(models: ServedModels) -> None:
    limits = replace(ServerLimits(), requests=3)
    busy = new_parts(models, ServerSettings(limits=limits))
    busy.counters.open = 3
    refused = send(busy, "GET", "/v1/models", {})
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert send(busy, "GET", "/healthz", {}).json() == {"status": "ok"}
    busy.counters.open = 2
    assert send(busy, "GET", "/v1/models", {}).status_code == 200


def test_a_file_of_conversations_may_be_larger_than_other_bodies(parts: ServerParts, tmp_path: Path) -> None:
    app, _ = routes_of(parts, tmp_path)
    limits = parts.settings.limits
    body = json.dumps({"name": "f", "text": "\n"}).encode()
    for path, largest in (("/api/import", limits.import_body), ("/api/conversations", limits.body)):
        found = [
            send(parts, "POST", path, TYPE, body + b" " * (size - len(body)), app) for size in (largest, largest + 1)
        ]
        assert [answer.status_code for answer in found] == [400, 413], path
        assert str(largest) in found[1].text


@pytest.mark.parametrize("streamed", [True, False])
def test_the_connection_of_a_client_that_does_not_read_is_closed(streamed: bool) -> None:
    """As uvicorn does it: a piece is sent when most of the one before it was read."""
    sent, closed = list[Any](), asyncio.Event()
    settings = ServerSettings(limits=replace(ServerLimits(), write_time=0.05))

    async def send_piece(message: Any) -> None:
        if len(sent) == 2 and not closed.is_set():
            await closed.wait()
        sent.append(message)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if not streamed:
            await send({"type": "http.response.body", "body": b"x" * 100_000})
        while streamed and not closed.is_set():
            await send({"type": "http.response.body", "body": b"event", "more_body": True})

    async def work() -> None:
        scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "http_version": "1.1"}
        scope |= {"headers": [(b"host", b"localhost")], "state": {"abort": closed.set}}
        async with asyncio.timeout(10):
            await Gate(app, settings, RequestCounters(), LOG.append)(scope, None, send_piece)  # type: ignore[arg-type]
        assert closed.is_set()

    asyncio.run(work())
