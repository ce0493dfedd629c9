"""Served models in tests: small random ones, in this process, behind the real application and the real clients."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import httpx
import openai
from fastapi import APIRouter

from tests.apps.sampled_models import write_causal, write_t5
from tunesmith.generate.export_directory import open_engine
from tunesmith.serve.app.factory import ServerParts, build_app
from tunesmith.serve.app.gate import AsgiApp
from tunesmith.serve.app.place import open_socket
from tunesmith.serve.app.process import new_server
from tunesmith.serve.app.settings import ServerSettings
from tunesmith.serve.engine.load import LoadLimits
from tunesmith.serve.engine.models import ServedModel, ServedModels, new_served_model
from tunesmith.serve.log_entry import LogEntry

Result = TypeVar("Result")
MESSAGES: list[Any] = [{"role": "user", "content": "Say red, old and big."}]
SEED = 11
"""Of random weights with which the most likely reply to ``MESSAGES`` has some tokens and ends by itself."""
LOG: list[LogEntry] = []
"""What the servers of the tests have logged: errors that are not a client's."""


def new_models(root: Path, limits: LoadLimits | None = None, names: Sequence[str] = ("chatml", "t5")) -> ServedModels:
    """Models whose threads were started, called by their prompt formats; ``t5`` is an encoder-decoder."""
    found = []
    for name in names:
        directory = root / name
        if not directory.exists():
            write_t5(directory) if name == "t5" else write_causal(directory, name, SEED)
        engine, sampling = open_engine(directory)
        found.append(new_served_model(name, engine, sampling, limits or LoadLimits(), LOG.append))
    for model in found:
        model.thread.start()
    return ServedModels(found)


def end_models(models: ServedModels) -> None:
    """End the threads of models. Raises AssertionError if one does not end."""
    for model in models:
        model.thread.end()
        model.thread.join(10)
        assert not model.thread.is_ready


def new_parts(models: ServedModels, settings: ServerSettings | None = None) -> ServerParts:
    """The parts of a server. The system chooses its port, since tests run in several processes."""
    return ServerParts(models, settings or ServerSettings(port=0, docs=True), LOG.append)


@cache
def app_of(parts: ServerParts) -> AsgiApp:
    return build_app(parts)


def run(work: Callable[[httpx.AsyncClient], Awaitable[Result]], parts: ServerParts, **client: Any) -> Result:
    """Do something with a client of an application that runs in this process."""

    async def body() -> Result:
        transport = httpx.ASGITransport(
            app_of(parts),  # type: ignore[arg-type]
            raise_app_exceptions=False,
        )
        options = {"transport": transport, "base_url": "http://localhost:8000", "timeout": 60.0, **client}
        async with httpx.AsyncClient(**options) as found:
            return await work(found)

    return asyncio.run(body())


@asynccontextmanager
async def openai_client(client: httpx.AsyncClient) -> AsyncIterator[openai.AsyncOpenAI]:
    """OpenAI's own client, unmodified."""
    yield openai.AsyncOpenAI(base_url="http://localhost:8000/v1", api_key="none", http_client=client, max_retries=0)


def post(parts: ServerParts, path: str, body: Any, **client: Any) -> httpx.Response:
    """The answer to one request. body: an object, or the bytes of the body."""

    async def send(found: httpx.AsyncClient) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        return await found.post(path, content=content, headers=headers)

    return run(send, parts, **client)


def events(text: str) -> list[Any]:
    """The objects of a stream of server-sent events, which ends with [DONE]."""
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


@contextmanager
def running_server(parts: ServerParts, routers: Sequence[APIRouter] = ()) -> Iterator[str]:
    """The address of a server in a thread of this process. routers: as of ``build_app``."""
    listener = open_socket(parts.settings)
    server = new_server(build_app(parts, routers), parts)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
        assert not thread.is_alive()


def wait_until(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for a condition. Raises AssertionError if it does not hold in time."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "the condition never held"
        time.sleep(0.005)


def model_of(models: ServedModels, name: str = "chatml") -> ServedModel:
    return models.find(name)
