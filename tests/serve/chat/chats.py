"""A chat service with its routes in this process, and short ways to use it."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import httpx

from tests.serve.served import LOG
from tunesmith.serve.app.exchange import read_request
from tunesmith.serve.app.factory import ServerParts, build_app
from tunesmith.serve.chat.events import conversation_events
from tunesmith.serve.chat.models import ChatModels, ModelPlaces
from tunesmith.serve.chat.routes import chat_router
from tunesmith.serve.chat.service import ChatService
from tunesmith.serve.conversations.records import new_id
from tunesmith.serve.conversations.store import ConversationStore
from tunesmith.serve.engine.load import LoadLimits
from tunesmith.serve.page.routes import page_router

Result = TypeVar("Result")
SHORT = {"max_new_tokens": 6, "min_new_tokens": 6}
LONG = {"max_new_tokens": 400, "min_new_tokens": 400}


class Chat:
    """A client of a chat service. service: behind the client."""

    def __init__(self, service: ChatService, client: httpx.AsyncClient) -> None:
        self.service, self.client = service, client

    async def ask(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        """The JSON of an answer with this status."""
        content = b"" if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json"} if body is not None else {}
        answer = await self.client.request(method, path, content=content, headers=headers)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def new(self, system: str = "") -> str:
        return str((await self.ask("POST", "/api/conversations", {"id": new_id(), "system": system}))["id"])

    async def send(self, home: str, text: str, parent: str | None = None, **answers: Any) -> list[Any]:
        """Send a message; returns it and the replies, which are being written."""
        wanted = {"models": ["chatml"], "sampling": SHORT, **answers}
        body = {"id": new_id(), "parent": parent, "text": text, "answers": wanted}
        return list((await self.ask("POST", f"/api/conversations/{home}/send", body))["messages"])

    async def tree(self, home: str) -> dict[str, Any]:
        """The messages of a conversation by their ids."""
        found = await self.ask("GET", f"/api/conversations/{home}")
        return {message["id"]: message for message in found["messages"]}

    async def ended(self, home: str) -> dict[str, Any]:
        """As ``tree``, when no reply is being written."""
        for _ in range(2000):
            messages = await self.tree(home)
            if all(message["state"] != "writing" for message in messages.values()):
                return messages
            await asyncio.sleep(0.01)
        raise AssertionError("a reply never ended")

    async def message(self, identity: str, what: str, body: Any = None, status: int = 200) -> Any:
        return await self.ask("POST", f"/api/messages/{identity}/{what}", body or {}, status)


def run_chat(parts: ServerParts, directory: Path, work: Callable[[Chat], Awaitable[Result]], **models: Any) -> Result:
    """Do something with a chat whose conversations are in a directory. models: closed models by name."""

    async def body() -> Result:
        async with open_chat(parts, directory, models) as chat:
            return await work(chat)

    return asyncio.run(body())


@asynccontextmanager
async def open_chat(
    parts: ServerParts, directory: Path, closed: dict[str, str] | Callable[[], dict[str, str]]
) -> AsyncIterator[Chat]:
    """A chat. closed: the runs that can be opened, or what lists them."""
    store = ConversationStore.open(directory)
    models = ChatModels(
        parts.models,
        ModelPlaces(parts.add, parts.remove),
        closed if callable(closed) else lambda: closed,
        LoadLimits(),
        LOG.append,
    )
    service = ChatService(store, models, LOG.append)
    read = partial(read_request, limits=parts.settings.limits)
    app = build_app(parts, [chat_router(service, read), page_router(None)])
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000", timeout=60) as client:
        try:
            yield Chat(service, client)
        finally:
            await service.close()
            store.close()


class Watcher:
    """What a page knows that watches a conversation: the events are applied as the script of the page does it."""

    def __init__(self) -> None:
        self.messages: dict[str, dict[str, Any]] = {}
        self.events: list[str] = []
        self.last = ""  # the id of the last event that has one

    def take(self, text: str) -> None:
        """Apply one event."""
        fields = dict(line.split(": ", 1) for line in text.strip().split("\n"))
        kind, values = fields["event"], json.loads(fields["data"])
        self.last = fields.get("id", self.last)
        self.events.append(kind)
        if kind == "conversation":
            self.messages = {message["id"]: message for message in values["messages"]}
        elif kind == "message":
            self.messages[values["id"]] = values
        elif kind == "text":
            assert len(self.messages[values["id"]]["text"]) == values["start"], "no part is missing"
            self.messages[values["id"]]["text"] += values["text"]

    async def follow(self, service: ChatService, home: str) -> None:
        """Watch until the task is cancelled or the stream ends."""
        async for event in conversation_events(service, home, self.last):
            self.take(event)

    async def follow_in_pieces(self, service: ChatService, home: str, draw: random.Random) -> None:
        """Watch until the task is cancelled, on connections that are lost after a few events each."""
        while True:
            events = conversation_events(service, home, self.last)
            for _ in range(draw.randint(1, 3)):
                self.take(await anext(events))
            await events.aclose()
            await asyncio.sleep(draw.uniform(0, 0.01))
