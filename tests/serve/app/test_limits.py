"""Limits as a client sees them: a full queue, shares and turns by address, and the total time of an answer."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serve.served import MESSAGES, app_of, end_models, events, new_models, new_parts, post, run, wait_until
from tunesmith.generate.scheduler import Scheduler
from tunesmith.serve.app.factory import ServerParts
from tunesmith.serve.app.settings import ServerLimits, ServerSettings
from tunesmith.serve.engine.load import Load, LoadLimits

COMPLETIONS = "/v1/completions"
LONG = {"model": "chatml", "prompt": "S", "max_tokens": 120, "min_tokens": 120, "temperature": 1}
TYPE = {"content-type": "application/json"}


@pytest.fixture
def small(tmp_path: Path) -> Iterator[ServerParts]:
    """A server with one row and a short queue."""
    models = new_models(tmp_path, LoadLimits(replies=1, waiting=8), ["chatml"])
    yield new_parts(models)
    end_models(models)


def load_of(parts: ServerParts) -> Load:
    return parts.models.find("chatml").thread.load


def client_at(parts: ServerParts, address: str) -> httpx.AsyncClient:
    """A client of an application in this process whose requests come from an address."""
    transport = httpx.ASGITransport(app_of(parts), False, client=(address, 1))  # type: ignore[arg-type]
    return httpx.AsyncClient(transport=transport, base_url="http://localhost:8000", timeout=60)


async def ask(client: httpx.AsyncClient, **fields: Any) -> httpx.Response:
    return await client.post(COMPLETIONS, content=json.dumps({**LONG, **fields}).encode(), headers=TYPE)


async def fill(parts: ServerParts, client: httpx.AsyncClient, count: int, **fields: Any) -> list[asyncio.Task[Any]]:
    """Send requests until so many wait behind the one that is answered."""
    tasks = []
    for number in range(count + 1):
        tasks.append(asyncio.create_task(ask(client, user=f"user {number}", **fields)))
        while load_of(parts).waiting < number or load_of(parts).running == 0:
            await asyncio.sleep(0.002)
    return tasks


async def give_up(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def test_a_refused_request_says_when_it_may_be_sent_again(small: ServerParts) -> None:
    async def work(_: httpx.AsyncClient) -> None:
        async with client_at(small, "10.0.0.1") as many, client_at(small, "10.0.0.2") as other:
            tasks = await fill(small, many, 8)
            for client in (many, other):
                refused = await ask(client)
                assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
                assert refused.json()["error"]["code"] == "queue_full"
            for task in tasks[:2]:  # two places become free
                task.cancel()
            await asyncio.gather(*tasks[:2], return_exceptions=True)
            while load_of(small).waiting > 6:
                await asyncio.sleep(0.002)
            refused = await ask(many)
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "share_full")
            answered = await ask(other, max_tokens=1, min_tokens=1)
            assert answered.status_code == 200
            assert sum(not task.done() for task in tasks) > 3, "it was its turn before those of the other address"
            await give_up(tasks)

    run(work, small)


def test_no_reply_of_one_address_is_for_another_user_of_its_choice(small: ServerParts) -> None:
    async def work(_: httpx.AsyncClient) -> None:
        async with client_at(small, "10.0.0.1") as many, client_at(small, "10.0.0.2") as other:
            tasks = await fill(small, many, 5, max_tokens=30, min_tokens=30)
            assert (await ask(other, max_tokens=1, min_tokens=1)).status_code == 200
            assert sum(task.done() for task in tasks) <= 2
            await asyncio.gather(*tasks)

    run(work, small)


BODIES: dict[str, dict[str, Any]] = {
    COMPLETIONS: LONG,
    "/v1/chat/completions": {"messages": MESSAGES, "min_tokens": 60, "max_tokens": 60},
    "/v1/responses": {"input": MESSAGES, "max_output_tokens": 60},
}


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("streamed", [True, False])
def test_an_answer_that_takes_too_long_ends_with_an_error(
    small: ServerParts, path: str, streamed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurried = new_parts(small.models, ServerSettings(limits=replace(ServerLimits(), total_time=0.06)))
    whole_step = Scheduler.step

    def slow_step(scheduler: Scheduler, *faults: Any) -> Any:
        time.sleep(0.04)
        return whole_step(scheduler, *faults)

    monkeypatch.setattr(Scheduler, "step", slow_step)
    answer = post(hurried, path, {"model": "chatml", "stream": streamed, "temperature": 0, **BODIES[path]})
    if not streamed or answer.status_code != 200:  # on a busy machine there is no first token in time
        assert answer.status_code == 504
        error = answer.json()["error"]
    elif path == "/v1/responses":
        error = json.loads(answer.text.strip().split("\n\n")[-1].split("data: ")[1])
    else:
        error = events(answer.text)[-1]["error"]
    assert error["code"] == "timeout"
    wait_until(lambda: load_of(small).running + load_of(small).waiting == 0)
    assert load_of(small).finished == {"cancelled": 1}
