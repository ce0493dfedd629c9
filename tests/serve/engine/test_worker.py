"""The thread of a model: turns, limits, cancelling within one step, and going on after an error."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.serve.served import LOG, end_models, new_models
from tunesmith.errors import UsageError
from tunesmith.generate.reply_text import PlainReader
from tunesmith.generate.requests import ReplyRequest
from tunesmith.generate.sampling import SamplingParameters
from tunesmith.generate.scheduler import Scheduler
from tunesmith.generate.slot_rows import SlotRows
from tunesmith.serve.engine.clients import JobClient
from tunesmith.serve.engine.fair_queue import FairQueue
from tunesmith.serve.engine.jobs import ReplyEvent, ReplyJob, ScoreJob
from tunesmith.serve.engine.load import LoadLimits
from tunesmith.serve.engine.models import ServedModel
from tunesmith.serve.engine.names import name_models
from tunesmith.serve.openai.replies import collect
from tunesmith.serve.refusals import RefusedRequest

LIMITS = LoadLimits(replies=4, waiting=12, tokens=500)


@pytest.fixture
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedModel]:
    models = new_models(tmp_path_factory.getbasetemp() / "worker", LIMITS, ["chatml"])
    yield models.find("chatml")
    end_models(models)


def job(model: ServedModel, tokens: int = 90, client: str = "", sample: int = 0, **options: Any) -> ReplyJob:
    sampling = SamplingParameters(min_new_tokens=tokens, max_new_tokens=tokens)
    request = ReplyRequest((40, 41, 42), sampling, 1, sample)
    return ReplyJob(request, model.engine.renderer, client=JobClient(client), **options)


def in_loop(work: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(60):
            await work()

    asyncio.run(limited())


def test_a_cancelled_reply_gets_no_further_step(model: ServedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[set[int]] = []
    whole_step = Scheduler.step

    def step(scheduler: Scheduler, *faults: Any) -> Any:
        found = whole_step(scheduler, *faults)
        steps.append({token.ticket for token in found})
        return found

    monkeypatch.setattr(Scheduler, "step", step)

    async def work() -> None:
        kept, gone = model.thread.submit(job(model)), model.thread.submit(job(model, sample=1))
        await anext(gone)
        done = len(steps)
        gone.cancel()
        await collect(kept)
        # The step that was running may have had a token of it.
        assert all(2 not in tickets for tickets in steps[done + 1 :])
        assert len(steps) > done + 20
        with pytest.raises(StopAsyncIteration):
            await anext(gone)

    in_loop(work)
    assert model.thread.load.finished == {"cancelled": 1, "length": 1}
    assert (model.thread.load.reserved, model.thread.load.running) == (0, 0)


@pytest.mark.parametrize(("tokens", "most"), [(90, 500 // 93), (5, 12 + 4)])
def test_what_does_not_fit_into_the_queue_is_refused_at_once(model: ServedModel, tokens: int, most: int) -> None:
    async def work() -> None:
        streams = []

        def fill() -> None:
            for number in range(40):
                streams.append(model.thread.submit(job(model, tokens, sample=number)))

        with pytest.raises(RefusedRequest) as refused:
            fill()
        assert (refused.value.status, refused.value.code) == (429, "queue_full")
        assert refused.value.retry_after
        assert most - 4 <= len(streams) <= most
        assert model.thread.load.reserved <= LIMITS.tokens
        for stream in streams:
            stream.cancel()
        while not model.thread.is_idle:
            await asyncio.sleep(0.01)
        assert model.thread.load.reserved == 0
        with pytest.raises(RefusedRequest):
            model.thread.submit_all([job(model, 90, sample=number) for number in range(30)])
        while not model.thread.is_idle:
            await asyncio.sleep(0.01)

    in_loop(work)


def test_more_replies_than_ever_fit_are_no_matter_of_time(model: ServedModel) -> None:
    async def work() -> None:
        for jobs in ([job(model, 1)] * (LIMITS.waiting + 1), [job(model, 90)] * 6):
            with pytest.raises(RefusedRequest) as refused:
                model.thread.submit_all(jobs)
            assert (refused.value.status, refused.value.code) == (400, "request_too_large")
        assert len(await asyncio.gather(*map(collect, model.thread.submit_all([job(model, 1)] * 12)))) == 12

    in_loop(work)


def test_a_client_with_many_requests_does_not_delay_another_one(model: ServedModel) -> None:
    async def work() -> None:
        ended: list[str] = []

        async def ask(client: str, number: int) -> None:
            await collect(model.thread.submit(job(model, 20, client, number)))
            ended.append(client)

        many = [asyncio.create_task(ask("many", number)) for number in range(11)]
        await asyncio.sleep(0)
        await asyncio.gather(ask("one", 99), *many)
        assert ended.index("one") < 9  # those of the first two turns; in the order of arrival it would be the last

    in_loop(work)


def test_an_error_ends_the_running_replies_and_the_thread_goes_on(
    model: ServedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        whole = await collect(model.thread.submit(job(model, 30)))
        calls = iter([None, RuntimeError("planted: /secret/path")])
        whole_step = Scheduler.step

        def step(scheduler: Scheduler, *faults: Any) -> Any:
            if error := next(calls, None):
                raise error
            return whole_step(scheduler, *faults)

        monkeypatch.setattr(Scheduler, "step", step)
        with pytest.raises(RefusedRequest) as failed:
            await collect(model.thread.submit(job(model, 30)))
        assert (failed.value.status, "secret" in failed.value.message) == (500, False)
        assert model.thread.is_ready
        assert await collect(model.thread.submit(job(model, 30))) == whole

    in_loop(work)
    assert len(LOG) == 1
    assert "planted" in LOG[0].error[-1]
    LOG.clear()
    assert model.thread.load.failures == 1


def test_an_error_of_one_reply_ends_it_alone(model: ServedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    whole_step, steps, bad = (
        SlotRows.step,
        list[int](),
        ReplyRequest((40,) * 128, SamplingParameters(max_new_tokens=1), 1, 0),
    )

    def step(rows: SlotRows, ids: Any) -> Any:
        logits = whole_step(rows, ids)
        steps.append(len(ids))
        if len(steps) == 3:
            logits[1] = float("nan")
        return logits

    class Unreadable(PlainReader):
        def stream(self) -> Any:
            return None

    async def work() -> None:
        alone = await collect(model.thread.submit(job(model, 30)))
        monkeypatch.setattr(SlotRows, "step", step)
        broken = ReplyJob(job(model, 30).request, Unreadable(model.engine.renderer.tokenizer))
        others = [job(model, 30, sample=9), ReplyJob(bad, model.engine.renderer), broken]
        streams = [model.thread.submit(each) for each in (job(model, 30), *others)]
        results = await asyncio.gather(*map(collect, streams), return_exceptions=True)
        assert results[0] == alone
        assert [getattr(result, "status", None) for result in results[1:]] == [500] * 3

    in_loop(work)
    assert len(LOG) == 3
    LOG.clear()
    assert (model.thread.load.failures, model.thread.load.reserved, model.thread.load.running) == (0, 0, 0)


def test_an_error_while_a_text_is_scored_is_that_of_its_request(
    model: ServedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise MemoryError

    async def work() -> None:
        assert len(await model.thread.score(ScoreJob((40, 41, 42), 2))) == 2
        monkeypatch.setattr("tunesmith.serve.engine.scoring.score_parts", fail)
        running = model.thread.submit(job(model, 20))
        with pytest.raises(RefusedRequest):
            await model.thread.score(ScoreJob((40, 41, 42), 2))
        assert (await collect(running)).finish == "length"

    in_loop(work)
    assert LOG.pop()


def test_the_end_of_the_thread_ends_every_reply(model: ServedModel) -> None:
    async def work() -> None:
        streams = [model.thread.submit(job(model, 60, sample=number)) for number in range(6)]
        await anext(streams[0])
        model.thread.refuse_new()
        with pytest.raises(RefusedRequest):
            model.thread.submit(job(model))
        model.thread.end()
        for stream in streams:
            with pytest.raises(RefusedRequest) as stopped:
                await collect(stream)
            assert stopped.value.code == "server_shutting_down"

    in_loop(work)
    assert model.thread.load.reserved == 0


def test_a_slow_reader_gets_the_whole_reply_in_fewer_pieces(model: ServedModel) -> None:
    async def work() -> None:
        quick = [event async for event in model.thread.submit(job(model, 60))]
        slow = model.thread.submit(job(model, 60))
        pieces: list[ReplyEvent] = []
        async for event in slow:
            pieces.append(event)
            while not model.thread.is_idle:
                await asyncio.sleep(0.01)
        assert len(pieces) < 4 < len(quick)
        assert "".join(each.text for each in pieces) == "".join(each.text for each in quick)
        assert [token for each in pieces for token in each.tokens] == [token for each in quick for token in each.tokens]

    in_loop(work)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), max_size=30))
def test_clients_take_turns_and_each_keeps_its_order(actions: list[tuple[str, int]]) -> None:
    queue = FairQueue[tuple[str, int]]()
    waiting: dict[str, list[int]] = {"a": [], "b": [], "c": []}
    for number, (client, kind) in enumerate(actions):
        if kind == 0 and len(queue):
            owner, found = queue.take()
            assert waiting[owner].pop(0) == found
        elif kind == 1 and waiting[client]:
            assert queue.remove(JobClient(client), (client, waiting[client].pop()))
        elif kind == 2:
            assert not queue.remove(JobClient(client), (client, -1))
        else:
            queue.put(JobClient(client), (client, number))
            waiting[client].append(number)
        assert len(queue) == sum(map(len, waiting.values())) == len(list(queue))
        assert {name: queue.count(name) for name in waiting} == {name: len(line) for name, line in waiting.items()}
    turns = []
    while len(queue):
        owner, found = queue.take()
        assert waiting[owner].pop(0) == found
        turns.append(owner)
    for place in range(1, len(turns)):
        if turns[place] == turns[place - 1]:
            assert set(turns[place:]) == {turns[place]}


def test_a_client_that_names_many_users_gets_no_further_turns() -> None:
    queue = FairQueue[str]()
    for number in range(6):
        queue.put(JobClient("many", f"user {number % 3}"), f"many {number}")
    queue.put(JobClient("one"), "one 0")
    queue.put(JobClient("one"), "one 1")
    order = [queue.take() for _ in range(8)]
    assert order == ["many 0", "one 0", "many 1", "one 1", "many 2", "many 3", "many 4", "many 5"]


def test_names_of_models_come_from_their_directories() -> None:
    assert name_models(["runs/a", "runs/b/export", "c=x/y"]) == {"a": "runs/a", "b": "runs/b/export", "c": "x/y"}
    assert name_models(["/r=s/a"]) == {"a": "/r=s/a"}
    adapters = ["runs/A/export/adapter", "runs/B/export/adapter", "runs/A", "mine/adapter", "/adapter"]
    assert list(name_models(adapters)) == ["A-adapter", "B-adapter", "A", "mine-adapter", "adapter"]
    for words in (["a", "b/a"], ["a\n=b"], ["/"], ["x" * 129]):
        with pytest.raises(UsageError):
            name_models(words)
