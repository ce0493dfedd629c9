"""The server on real sockets: malformed requests, clients that go away, slow clients, and signals."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.apps.sampled_models import write_causal
from tests.conftest import REPOSITORY
from tests.serve.app.raw_requests import fixed_cases, request, send
from tests.serve.served import new_parts, running_server, wait_until
from tunesmith.serve.app.factory import ServerParts, build_app
from tunesmith.serve.app.place import open_socket
from tunesmith.serve.app.process import new_server
from tunesmith.serve.app.settings import ServerLimits, ServerSettings
from tunesmith.serve.engine.models import ServedModels

LIMITS = replace(ServerLimits(), header_time=0.3, body_time=0.3, write_time=0.3)
LONG = {"model": "chatml", "prompt": "S", "max_tokens": 120, "min_tokens": 120, "temperature": 1, "stream": True}
"""A reply that fills the context, so that it lasts longer than what the tests do to its client."""


@pytest.fixture
def port(parts: ServerParts) -> Iterator[int]:
    with running_server(parts) as address:
        yield urlsplit(address).port or 0


@pytest.fixture
def impatient(models: ServedModels) -> Iterator[int]:
    """A server with short time limits."""
    with running_server(new_parts(models, ServerSettings(port=0, limits=LIMITS))) as address:
        yield urlsplit(address).port or 0


def open_stream(port: int, **fields: object) -> socket.socket:
    """A connection on which a long reply has begun."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    connection.sendall(request(json.dumps({**LONG, **fields}).encode(), path=b"/v1/completions"))
    if fields.get("stream", True):
        assert connection.recv(4).startswith(b"HTTP")
    return connection


def test_malformed_requests_are_answered_or_closed_and_the_server_goes_on(port: int) -> None:
    for case in fixed_cases():
        status, received = send(port, case)
        assert status in case.wanted, (case.name, received[:300])
        if status >= 400:
            head, _, body = received.partition(b"\r\n\r\n")
            assert json.JSONDecoder().raw_decode(body.decode())[0]["error"]["message"], case.name
            assert b"traceback" not in body.lower()
            assert b"content-type: application/json" in head.lower()
    assert send(port, next(fixed_cases()))[0] == 200


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("reset", [True, False])
def test_a_reply_ends_when_its_client_has_gone(parts: ServerParts, port: int, streamed: bool, reset: bool) -> None:
    load = parts.models.find("chatml").thread.load
    cancelled = load.finished["cancelled"]
    connection = open_stream(port, stream=streamed)
    wait_until(lambda: load.running == 1)
    if reset:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    wait_until(lambda: load.running == 0)
    assert load.finished["cancelled"] == cancelled + 1


def test_clients_that_send_slowly_do_not_hold_a_connection(impatient: int) -> None:
    whole = request()
    for begun, wanted in ((b"", b""), (whole[:30], b""), (whole[:-20], b" 408 ")):
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", impatient), timeout=5) as connection:
            connection.sendall(begun)
            try:
                received = connection.recv(65_536)
            except ConnectionResetError:
                received = b""
            assert wanted in received
        assert time.monotonic() - began < 4
    assert send(impatient, next(fixed_cases()))[0] == 200


def test_a_client_that_does_not_read_loses_its_reply(models: ServedModels, impatient: int) -> None:
    load = models.find("chatml").thread.load
    before = load.finished.copy()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", impatient))
        body = json.dumps({**LONG, "n": 8, "logprobs": 20, "prompt": ["S"] * 64}).encode()
        connection.sendall(request(body, path=b"/v1/completions"))
        wait_until(lambda: load.running > 0)
        wait_until(lambda: load.running + load.waiting == 0, 60)
    ended = load.finished - before
    assert ended.total() == 8 * 64
    assert ended["cancelled"] > 8, "those that had not ended when the connection was closed"


def test_too_many_connections_are_closed(models: ServedModels) -> None:
    limits = replace(ServerLimits(), connections=3)
    with running_server(new_parts(models, ServerSettings(port=0, limits=limits))) as address:
        port = urlsplit(address).port or 0
        kept = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(3)]
        time.sleep(0.1)
        assert send(port, next(fixed_cases()))[0] == 0
        for connection in kept:
            connection.close()
        time.sleep(0.1)
        assert send(port, next(fixed_cases()))[0] == 200


def test_the_server_ends_after_what_has_to_be_stored_even_if_nobody_is_connected() -> None:
    parts, stored = new_parts(ServedModels(), ServerSettings(port=0)), list[bool]()

    async def close() -> None:
        await asyncio.sleep(0.5)  # uvicorn looks for connections every 0.1 s
        stored.append(True)

    async def serve() -> None:
        with closing(open_socket(parts.settings)) as listener:
            server = new_server(build_app(parts), parts)
            task = asyncio.create_task(server.serve([listener]))
            while not server.started:
                await asyncio.sleep(0.01)
            server.handle_exit(signal.SIGTERM, None)
            await task

    parts.closers.append(close)
    asyncio.run(serve())
    assert stored


def listening(port: int) -> set[str]:
    """The addresses on which somebody listens at a port, as Linux writes them."""
    found = set[str]()
    for name in ("tcp", "tcp6"):
        for line in Path("/proc/net", name).read_text().splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            if state == "0A" and int(local.rpartition(":")[2], 16) == port:
                found.add(local.rpartition(":")[0])
    return found


def test_a_signal_ends_the_process_and_its_streams_in_order(tmp_path: Path) -> None:
    write_causal(tmp_path / "run" / "export", "chatml")
    words = [
        sys.executable,
        "-m",
        "tunesmith.cli",
        "serve",
        f"chatml={tmp_path / 'run'}",
        "--port",
        "0",
        "--data",
        "chat",
    ]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path) as process:
        try:
            assert process.stderr is not None
            lines = iter(process.stderr.readline, "")
            started = json.loads(next(line for line in lines if '"address"' in line))
            port = int(started["fields"]["address"].rpartition(":")[2])
            assert listening(port) == {"0100007F"}
            streams = [open_stream(port, prompt=["S"] * 2, n=8) for _ in range(3)]
            process.send_signal(signal.SIGTERM)
            time.sleep(0.1)
            process.send_signal(signal.SIGTERM)  # a second one ends what is still generated
            for stream in streams:
                received = b""
                while part := stream.recv(65_536):
                    received += part
                assert received.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
                events = [line for line in received.split(b"\n") if line.startswith(b"data: {")]
                assert all(json.loads(line.removeprefix(b"data: ")) for line in events)
                assert b'"code":"server_shutting_down"' in events[-1]
            assert process.wait(15) == 0
            logged = [json.loads(line) for line in lines]
            assert (logged[-1]["level"], logged[-1]["message"]) == ("info", "stopped")
        finally:
            process.kill()
