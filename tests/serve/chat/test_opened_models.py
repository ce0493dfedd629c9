"""The runs that can be chatted with: listed each time, opened when they are used, and closed when others are."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.apps.sampled_models import write_causal
from tests.serve.chat.chats import LONG, Chat, open_chat
from tests.serve.served import LOG, end_models, new_models, new_parts, wait_until
from tunesmith.generate.requests import ReplyRequest
from tunesmith.generate.sampling import SamplingParameters
from tunesmith.serve.app.factory import ServerParts
from tunesmith.serve.chat.models import MOST_OPENED
from tunesmith.serve.engine.jobs import ReplyJob
from tunesmith.serve.page.runs import chat_models
from tunesmith.serve.refusals import RefusedRequest

NAMES = [f"set/run {number}" for number in range(MOST_OPENED + 2)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Name -> directory of runs with small models."""
    root = tmp_path_factory.mktemp("runs")
    for number, name in enumerate(NAMES):
        write_causal(root / name / "export", "chatml", number)
    return {name: str(root / name) for name in NAMES}


@pytest.fixture
def own(tmp_path: Path) -> Iterator[ServerParts]:
    """A server that has started with one model."""
    models = new_models(tmp_path, names=["chatml"])
    yield new_parts(models)
    end_models(models)
    LOG.clear()


def opened(parts: ServerParts) -> list[str]:
    return [model.name for model in parts.models if model.name != "chatml"]


async def ask(chat: Chat, name: str, **options: Any) -> dict[str, Any]:
    """A reply of a model."""
    _, reply = await chat.send(await chat.new(), "Hello", models=[name], **options)
    return dict(reply)


async def reply_of(chat: Chat, name: str) -> dict[str, Any]:
    """A reply of a model that has ended."""
    home = await chat.new()
    _, reply = await chat.send(home, "Hello", models=[name])
    return dict((await chat.ended(home))[reply["id"]])


def test_the_model_that_was_used_longest_ago_is_closed_for_another_one(
    own: ServerParts, runs: dict[str, str], tmp_path: Path
) -> None:
    async def work() -> None:
        async with open_chat(own, tmp_path, runs) as chat:
            for name in NAMES[:MOST_OPENED]:
                assert (await reply_of(chat, name))["state"] == "done"
            first = next(model for model in own.models if model.name == NAMES[1])  # find() would count as a use
            await reply_of(chat, NAMES[0])  # so another one was used longest ago
            assert (await reply_of(chat, NAMES[-1]))["state"] == "done"
            assert opened(own) == [NAMES[0], *NAMES[2:MOST_OPENED], NAMES[-1]]
            assert NAMES[1] not in own.texts
            wait_until(lambda: not first.thread.is_ready)
            request = ReplyRequest((40,), SamplingParameters(max_new_tokens=1), 1, 0)
            with pytest.raises(RefusedRequest) as refused:
                first.thread.submit(ReplyJob(request, first.engine.renderer))
            assert refused.value.code == "model_closed"
            assert (await reply_of(chat, NAMES[1]))["state"] == "done", "it is opened again"
            assert len(opened(own)) == MOST_OPENED
            states = {each["name"]: each["open"] for each in (await chat.ask("GET", "/api/state"))["models"]}
            assert states == {"chatml": True, **{name: name in opened(own) for name in NAMES}}

    asyncio.run(work())


def test_a_model_that_a_program_uses_is_not_the_one_that_was_used_longest_ago(
    own: ServerParts, runs: dict[str, str], tmp_path: Path
) -> None:
    async def work() -> None:
        async with open_chat(own, tmp_path, runs) as chat:
            for name in NAMES[:MOST_OPENED]:
                await reply_of(chat, name)
            asked = {"model": NAMES[0], "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}
            await chat.ask("POST", "/v1/chat/completions", asked)
            await reply_of(chat, NAMES[-1])
            assert opened(own) == [NAMES[0], *NAMES[2:MOST_OPENED], NAMES[-1]]

    asyncio.run(work())


def test_a_model_that_writes_a_reply_is_not_closed(own: ServerParts, runs: dict[str, str], tmp_path: Path) -> None:
    async def work() -> None:
        async with open_chat(own, tmp_path, runs) as chat:
            for name in NAMES[:MOST_OPENED]:
                await reply_of(chat, name)
            chat.service.models.need(NAMES[1])  # as a reply does whose prompt is being encoded
            writing = [await ask(chat, name, sampling=LONG) for name in (NAMES[0], *NAMES[2:MOST_OPENED])]
            refused = await reply_of(chat, NAMES[-1])
            assert refused["state"] == "failed"
            assert f"{MOST_OPENED} models are open" in refused["error"]
            chat.service.models.release(NAMES[1])
            assert (await reply_of(chat, NAMES[-1]))["state"] == "done"
            assert NAMES[1] not in opened(own)
            for reply in writing:
                await chat.message(reply["id"], "stop")

    asyncio.run(work())


def test_a_run_that_has_ended_since_the_start_can_be_chatted_with(own: ServerParts, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()

    async def work() -> None:
        async with open_chat(own, tmp_path, lambda: chat_models(runs)) as chat:
            assert [each["name"] for each in (await chat.ask("GET", "/api/state"))["models"]] == ["chatml"]
            write_causal(runs / "later" / "export", "chatml")
            (runs / "later" / "recipe.yaml").write_text("name: later\n")
            (runs / "later" / "metrics.jsonl").write_text("")
            assert (await chat.ask("GET", "/api/state"))["models"][1] == {"name": "later", "open": False}
            assert (await reply_of(chat, "later"))["state"] == "done"

    asyncio.run(work())


def test_a_model_with_slashes_in_its_name_has_its_address(
    own: ServerParts, runs: dict[str, str], tmp_path: Path
) -> None:
    async def work() -> None:
        async with open_chat(own, tmp_path, runs) as chat:
            await reply_of(chat, NAMES[0])
            listed = (await chat.ask("GET", "/v1/models"))["data"]
            for path in (f"/v1/models/{NAMES[0]}", f"/v1/models/{NAMES[0].replace('/', '%2F')}"):
                assert await chat.ask("GET", path) == listed[1]
            refused = await chat.ask("GET", "/v1/models/set/none", status=404)
            assert refused["error"]["code"] == "model_not_found"

    asyncio.run(work())
