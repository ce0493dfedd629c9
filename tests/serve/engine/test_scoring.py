"""Texts are scored in parts between the steps of replies, with the numbers of one pass."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from tests.serve.engine.test_worker import in_loop, job
from tests.serve.served import end_models, new_models
from tunesmith.generate.prompt_scores import score_text
from tunesmith.generate.scheduler import Scheduler
from tunesmith.serve.engine.clients import JobClient
from tunesmith.serve.engine.jobs import ScoreJob
from tunesmith.serve.engine.load import LoadLimits
from tunesmith.serve.engine.models import ServedModel
from tunesmith.serve.engine.scoring import ScoreTask
from tunesmith.serve.openai.replies import collect

PART = 16
IDS = tuple(33 + 7 * number % 60 for number in range(100))


@pytest.fixture
def model(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServedModel]:
    for place in ("generate.prompt_scores", "serve.engine.worker"):
        monkeypatch.setattr(f"tunesmith.{place}.PART_TOKENS", PART)
    models = new_models(tmp_path_factory.getbasetemp() / "worker", LoadLimits(replies=4), ["chatml"])
    yield models.find("chatml")
    end_models(models)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the thread does, in order: "step" with a token of a reply, or "part"."""
    found: list[str] = []
    whole_step, whole_part = Scheduler.step, ScoreTask.score_part

    def step(scheduler: Scheduler, *faults: Any) -> Any:
        tokens = whole_step(scheduler, *faults)
        found.extend(["step"] if tokens else [])
        return tokens

    def part(task: ScoreTask, engine: Any) -> int | None:
        count = whole_part(task, engine)
        found.extend([] if count is None else ["part"])
        return count

    monkeypatch.setattr(Scheduler, "step", step)
    monkeypatch.setattr(ScoreTask, "score_part", part)
    return found


def test_replies_go_on_while_texts_are_scored(model: ServedModel, calls: list[str]) -> None:
    async def work() -> None:
        reply = model.thread.submit(job(model, 90))
        await anext(reply)
        scores = await asyncio.gather(*(model.thread.score(ScoreJob(IDS, 2)) for _ in range(8)))
        assert (await collect(reply)).finish == "length"
        size = model.engine.renderer.tokenizer.size
        assert scores == [score_text(model.engine.model, IDS, 2, size)] * 8

    in_loop(work)
    assert calls.count("part") == 8 * 7
    between = "".join(call[0] for call in calls).strip("s").split("s")
    assert max(map(len, between)) <= 2, "about one part between two steps"
    assert model.thread.load.finished == {"scored": 8, "length": 1}
    assert (model.thread.load.reserved, model.thread.load.waiting) == (0, 0)


def test_a_text_that_nobody_waits_for_is_scored_no_further(
    model: ServedModel, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    part = ScoreTask.score_part

    async def work() -> None:
        loop, begun = asyncio.get_running_loop(), asyncio.Event()

        def slow(task: ScoreTask, engine: Any) -> int | None:
            count = part(task, engine)
            if task.job.client.address == "gone":
                loop.call_soon_threadsafe(begun.set)
                while not task.is_cancelled:
                    pass  # the client goes while a part of its text is scored
            return count

        monkeypatch.setattr(ScoreTask, "score_part", slow)
        first = asyncio.create_task(model.thread.score(ScoreJob(IDS, 2, JobClient("gone"))))
        await begun.wait()
        second = asyncio.create_task(model.thread.score(ScoreJob(IDS, 2, JobClient("gone"))))
        await asyncio.sleep(0)
        assert model.thread.load.waiting == 2
        second.cancel()
        await asyncio.wait([second])
        assert model.thread.load.waiting == 1, "what waits leaves at once, also while a part is scored"
        first.cancel()
        await asyncio.wait([first])
        assert len(await model.thread.score(ScoreJob(IDS, 2, JobClient("other")))) == len(IDS) - 1

    in_loop(work)
    assert calls.count("part") == 1 + 7
    assert model.thread.load.finished == {"cancelled": 2, "scored": 1}
    assert (model.thread.load.reserved, model.thread.load.waiting) == (0, 0)


def test_the_end_of_the_thread_ends_what_is_scored(model: ServedModel) -> None:
    async def work() -> None:
        tasks = [asyncio.create_task(model.thread.score(ScoreJob(IDS, 2))) for _ in range(20)]
        await asyncio.sleep(0)
        model.thread.end()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        ended = [getattr(result, "code", None) for result in results if isinstance(result, Exception)]
        assert ended
        assert set(ended) == {"server_shutting_down"}

    in_loop(work)
    assert model.thread.load.reserved == 0
