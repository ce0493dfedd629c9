"""A server is killed at random moments while clients write: what it has acknowledged is there when it starts again.

    python -m tests.campaigns.serve_kills [--kills 50] [--clients 8] [--seed 0]

All servers use one directory of conversations. Every client has conversations of its own, in which it sends messages
with and without replies, votes, comments, edits, renames and deletes. SIGKILL ends the process, not the computer.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import random
import signal
import socket
import sqlite3
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import torch

from tests.apps.sampled_models import write_causal
from tunesmith.serve.app.command import serve
from tunesmith.serve.app.place import server_place
from tunesmith.serve.app.settings import ServerSettings
from tunesmith.serve.conversations.database import FILE
from tunesmith.serve.conversations.records import new_id
from tunesmith.serve.conversations.store import ConversationStore

STARTED = 60.0
"""Seconds in which a server has to answer."""


@dataclass
class Acknowledged:
    """What servers have acknowledged. texts: of messages by id; changes: (message, field) -> value; deleted: messages
    that must not come back; titles: of conversations; counts: of all operations by name."""

    texts: dict[str, str] = field(default_factory=dict)
    changes: dict[tuple[str, str], Any] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    titles: dict[str, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)


class Client:
    """Writes to a conversation until the server is gone. done: is added to."""

    def __init__(self, http: httpx.AsyncClient, done: Acknowledged, draw: random.Random) -> None:
        self._http, self._done, self._draw = http, done, draw
        self._home, self._last = new_id(), None

    async def write(self) -> None:
        try:
            await self._ask("POST", "/api/conversations", {"id": self._home})
            while True:
                await self._send()
                await self._rename()
        except httpx.TransportError:
            return

    async def _send(self) -> None:
        name, text = new_id(), f"message {self._draw.random()}"
        answers = {"models": ["model"], "sampling": {"max_new_tokens": 8}} if self._draw.random() < 0.5 else None
        body = {"id": name, "parent": self._last, "text": text, "answers": answers}
        found = await self._ask("POST", f"/api/conversations/{self._home}/send", body)
        self._done.texts[name] = text
        self._last = name
        for reply in found["messages"][1:]:
            await self._judge(reply["id"])

    async def _judge(self, reply: str) -> None:
        vote, edited = self._draw.choice((1, -1)), new_id()
        await self._ask("POST", f"/api/messages/{reply}/vote", {"vote": vote})
        self._done.changes[reply, "vote"] = vote
        await self._ask("POST", f"/api/messages/{reply}/comment", {"text": edited})
        self._done.changes[reply, "comment"] = edited
        await self._ask("POST", f"/api/messages/{reply}/stop", {})
        await self._ask("POST", f"/api/messages/{reply}/edit", {"id": edited, "text": "edited"})
        self._done.texts[edited] = "edited"
        if self._draw.random() < 0.3:
            self._done.texts.pop(edited)  # from here on either is right
            await self._ask("DELETE", f"/api/messages/{edited}")
            self._done.deleted.add(edited)
        else:
            self._last = edited

    async def _rename(self) -> None:
        if self._draw.random() < 0.2:
            title = new_id()
            self._done.titles.pop(self._home, None)
            await self._ask("PATCH", f"/api/conversations/{self._home}", {"title": title})
            self._done.titles[self._home] = title

    async def _ask(self, method: str, path: str, body: Any = None) -> Any:
        answer = await self._http.request(method, path, json=body) if body is not None else await self._plain(path)
        assert answer.status_code == 200, answer.text
        self._done.counts[f"{method} {path.rpartition('/')[2] if method == 'POST' else ''}".strip()] += 1
        return answer.json()

    async def _plain(self, path: str) -> httpx.Response:
        return await self._http.delete(path)


async def write_until_killed(process: Any, port: int, done: Acknowledged, clients: int, draw: random.Random) -> None:
    """Let clients write to a server, which is killed after a random time."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60, limits=limits) as http:
        async with asyncio.timeout(STARTED):
            while not await has_started(http):
                await asyncio.sleep(0.05)
        loop = asyncio.get_running_loop()
        loop.call_later(draw.uniform(0.05, 2.0), os.kill, process.pid, signal.SIGKILL)
        await asyncio.gather(*(Client(http, done, random.Random(draw.random())).write() for _ in range(clients)))


async def has_started(http: httpx.AsyncClient) -> bool:
    """Whether the server is ready."""
    try:
        return (await http.get("/healthz")).status_code == 200
    except httpx.TransportError:
        return False


def find_losses(data: Path, done: Acknowledged) -> list[str]:
    """What was acknowledged and is not there."""
    connection = sqlite3.connect(data / FILE)
    checked = connection.execute("PRAGMA integrity_check").fetchone()[0]
    connection.close()
    store = ConversationStore.open_existing(data)
    trees = list(store.trees())
    store.close()
    found = {message.id: message for tree in trees for message in tree.messages}
    titles = {tree.conversation.id: tree.conversation.title for tree in trees}
    losses = [] if checked == "ok" else [f"damaged: {checked}"]
    losses += [f"message {name}" for name, text in done.texts.items() if name not in found or found[name].text != text]
    losses += [
        f"{what} of {name}"
        for (name, what), value in done.changes.items()
        if name not in found or getattr(found[name], what) != value
    ]
    losses += [f"{name} came back" for name in done.deleted if name in found]
    return losses + [f"title of {name}" for name, title in done.titles.items() if titles.get(name) != title]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def serve_quietly(model: str, port: int, data: Path) -> None:
    """The server of a child process. A forked process starts quickly, because torch is loaded already."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    with server_place(ServerSettings(port=port), data) as place:
        serve({"model": model}, place)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    draw, done, losses = random.Random(options.seed), Acknowledged(), list[str]()
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        model, data = str(write_causal(root / "model", "chatml")), root / "data"
        for number in range(options.kills):
            port = free_port()
            process = multiprocessing.get_context("fork").Process(target=serve_quietly, args=(model, port, data))
            process.start()
            try:
                asyncio.run(write_until_killed(process, port, done, options.clients, draw))
            finally:
                process.kill()
                process.join(30)
            losses += find_losses(data, done)
            print(f"kill {number + 1}: {done.counts.total()} operations, {len(losses)} lost", flush=True)
    print(", ".join(f"{name} {count}" for name, count in sorted(done.counts.items())))
    messages = len(done.texts)
    print(f"{messages - len(losses)}/{messages} acknowledged messages were kept at {options.kills} kills")
    if losses or not done.texts:
        raise SystemExit("\n".join([*losses[:20], "what a server had acknowledged was lost, or nothing was written"]))


if __name__ == "__main__":
    main()
