"""Servers get SIGTERM at random moments while clients read streams: every stream ends as documented.

    python -m tests.campaigns.serve_signals [--servers 100] [--seed 0]

Every server has eight clients: two each for the streams of chats, completions and responses, and two on the chat page,
which send messages and watch their conversation. Each begins streams until the server is gone. Half of the servers get
a second signal, which ends what is still generated. A stream that has begun must end with its last event and the end of
its body, the process must have exit code 0, no reply may be left in the state of being written, and what was
acknowledged must be stored. The processes are forked from this one, which has imported everything.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import signal
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import torch

from tests.apps.sampled_models import write_causal
from tests.campaigns.serve_kills import STARTED, Acknowledged, find_losses, free_port, has_started
from tests.campaigns.server_process import run_serve
from tunesmith.serve.app.command import serve as preloaded  # noqa: F401  (the forked processes have imported it)
from tunesmith.serve.conversations.records import new_id
from tunesmith.serve.conversations.store import ConversationStore

BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "S"}], "n": 2},
    "/v1/completions": {"prompt": ["S", "T"], "n": 2},
    "/v1/responses": {"input": "S"},
}
LENGTHS = (5, 30, 100)  # tokens
FIRST, BETWEEN = 500, 100
"""The largest numbers of lines that the clients get before the first signal, and from there to the second."""
PATIENCE = 30.0
"""Seconds after which a signal is sent in any case."""
LAST_RESPONSE = ("response.completed", "response.incomplete")


@dataclass
class Streams:
    """How the streams of all servers have ended.

    ended: their number by the way.
    wrong: those that were cut.
    lines: how many lines all clients have got.
    done: what the chat page has acknowledged.
    """

    ended: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    lines: int = 0
    done: Acknowledged = field(default_factory=Acknowledged)


async def read_streams(http: httpx.AsyncClient, streams: Streams, path: str, draw: random.Random) -> None:
    """Begin streams of the API until none begins; each must have its last event.

    httpx raises an error for a body whose end is missing.
    """
    while True:
        size = draw.choice(LENGTHS)
        limits = {"max_output_tokens": size} if "resp" in path else {"max_tokens": size, "min_tokens": size}
        body = {**BODIES[path], **limits, "model": "model", "temperature": 1, "stream": True}
        async with http.stream("POST", path, json=body) as answer:
            if answer.status_code != 200:
                text = (await answer.aread()).decode()
                code = json.loads(text)["error"]["code"]
                streams.ended[f"refused: {code}"] += 1
                if code != "server_shutting_down":
                    streams.wrong.append(f"{path}: {text}")
                return
            await _judge(streams, path, answer, find_end)


async def _judge(streams: Streams, path: str, answer: httpx.Response, find: Callable[[str, list[str]], str]) -> None:
    """Read a stream that has begun to its end, and count how it has ended."""
    lines: list[str] = []
    try:
        async for line in answer.aiter_lines():
            lines.append(line)
            streams.lines += 1
        how = find(path, lines)
    except (httpx.TransportError, ValueError, KeyError, IndexError) as error:
        streams.wrong.append(f"{path}: {error!r}, the last lines are {lines[-3:]}")
        return
    streams.ended[f"{path}: {how}"] += 1


def find_end(path: str, lines: list[str]) -> str:
    """How a stream of the API has ended. Raises ValueError or KeyError if it has not."""
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    if lines[-1] != "":
        raise ValueError("the last event is not complete")
    if path != "/v1/responses" and data.pop() != "[DONE]":
        raise ValueError("[DONE] is missing")
    events = [json.loads(each) for each in data]
    last = events[-1]
    code = last.get("code") if path == "/v1/responses" else last.get("error", {}).get("code")
    if code == "server_shutting_down":
        return "ended by the signal"
    if path == "/v1/responses":
        if last["type"] not in LAST_RESPONSE:
            raise ValueError(f"the last event is {last['type']}")
        return "whole"
    finished = {(choice["index"]) for event in events for choice in event["choices"] if choice["finish_reason"]}
    if finished != set(range(len(finished))) or len(finished) != (2 if "chat" in path else 4):
        raise ValueError(f"only the choices {finished} have ended")
    return "whole"


async def use_page(http: httpx.AsyncClient, streams: Streams) -> None:
    """Send messages in a new conversation and watch it until the server says goodbye."""
    home = new_id()
    (await http.post("/api/conversations", json={"id": home})).raise_for_status()
    watching = asyncio.create_task(_watch(http, streams, home))
    with suppress(httpx.TransportError):
        await _write(http, streams.done, home)
    await watching


async def _watch(http: httpx.AsyncClient, streams: Streams, home: str) -> None:
    async with http.stream("GET", f"/api/conversations/{home}/events") as answer:
        answer.raise_for_status()
        await _judge(streams, "events", answer, _find_goodbye)


def _find_goodbye(path: str, lines: list[str]) -> str:
    if lines[-3:] != ["event: bye", "data: {}", ""]:
        raise ValueError("the server has not said goodbye")
    return "bye"


async def _write(http: httpx.AsyncClient, done: Acknowledged, home: str) -> None:
    """Send messages with replies until the server refuses."""
    last = None
    while True:
        name = new_id()
        answers = {"models": ["model"], "sampling": {"max_new_tokens": 30, "min_new_tokens": 30}}
        body = {"id": name, "parent": last, "text": f"text of {name}", "answers": answers}
        answer = await http.post(f"/api/conversations/{home}/send", json=body)
        if answer.status_code == 503:
            return
        answer.raise_for_status()
        done.texts[name] = body["text"]
        last = name
        await asyncio.sleep(0.05)


async def wait_for_lines(streams: Streams, count: int, seconds: float = PATIENCE) -> None:
    """Wait until the clients have got so many further lines, which does not depend on the speed of the machine."""
    wanted = streams.lines + count
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while streams.lines < wanted:
                await asyncio.sleep(0.005)


async def stop_under_load(process: Any, port: int, streams: Streams, draw: random.Random, twice: bool) -> None:
    """Let eight clients use a server, which gets one signal or two."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60, limits=limits) as http:
        async with asyncio.timeout(STARTED):
            while not await has_started(http):
                await asyncio.sleep(0.05)
        clients: list[Awaitable[None]] = [read_streams(http, streams, path, draw) for path in (*BODIES, *BODIES)]
        tasks = [asyncio.ensure_future(each) for each in (*clients, use_page(http, streams), use_page(http, streams))]
        await wait_for_lines(streams, draw.randint(0, FIRST))
        early = [task for task in tasks if task.done()]
        os.kill(process.pid, signal.SIGTERM)
        if twice:
            await wait_for_lines(streams, draw.randint(0, BETWEEN), 1.0)
            if process.is_alive():
                os.kill(process.pid, signal.SIGTERM)
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, httpx.TransportError):
                streams.ended["not begun: the server has gone"] += 1  # a new connection is closed
            elif isinstance(result, BaseException):
                raise result
        if early:
            streams.wrong.append(f"{len(early)} clients were refused before the signal")


def find_unfinished(data: Path) -> list[str]:
    """The replies that are stored as being written."""
    store = ConversationStore.open_existing(data)
    found = [message.id for tree in store.trees() for message in tree.messages if message.state == "writing"]
    store.close()
    return [f"reply {name} is stored as being written" for name in found]


def stop_server(root: Path, streams: Streams, draw: random.Random, twice: bool) -> list[str]:
    """What is wrong after one server was stopped, apart from its streams."""
    port, data, log = free_port(), root / "data", root / "log"
    words = [f"model={root / 'model'}", "--port", str(port), "--data", str(data)]
    process = multiprocessing.get_context("fork").Process(target=run_serve, args=(words, log))
    process.start()
    try:
        asyncio.run(stop_under_load(process, port, streams, draw, twice))
        process.join(30)
        wrong = [] if process.exitcode == 0 else [f"exit code {process.exitcode}: {log.read_text()[-1000:]}"]
    finally:
        process.kill()
        process.join(30)
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    if entries[-1]["message"] != "stopped" or any(entry["level"] == "error" for entry in entries):
        wrong.append(f"the log ends with {log.read_text()[-1000:]}")
    return [*wrong, *find_losses(data, streams.done), *find_unfinished(data)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    draw, streams, wrong = random.Random(options.seed), Streams(), list[str]()
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        write_causal(root / "model", "chatml")
        for number in range(options.servers):
            wrong += stop_server(root, streams, draw, twice=number % 2 == 1)
            total = sum(count for how, count in streams.ended.items() if how.startswith(("/", "events")))
            print(f"server {number + 1}: {total} streams ended, {len(streams.wrong)} wrong", flush=True)
            if wrong:
                break
    print("\n".join(f"{count:6,d}  {how}" for how, count in sorted(streams.ended.items())))
    messages = len(streams.done.texts)
    ended = sum(count for how, count in streams.ended.items() if how.startswith(("/", "events")))
    print(
        f"{ended - len(streams.wrong)}/{ended} streams ended in order at {options.servers} signals; "
        f"{messages} messages were acknowledged, {len(wrong)} faults"
    )
    if wrong or streams.wrong or not streams.done.texts:
        raise SystemExit("\n".join(["a stream was cut, or something was lost:", *wrong[:20], *streams.wrong[:20]]))


if __name__ == "__main__":
    main()
