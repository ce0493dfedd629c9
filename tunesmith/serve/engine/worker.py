"""The thread of one model: it drives the scheduler of ``generate`` for the requests of all clients."""

from __future__ import annotations

import asyncio
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Callable

from tunesmith.generate.engine import Engine
from tunesmith.generate.prompt_scores import score_text
from tunesmith.generate.row_sampler import TokenLogProbability
from tunesmith.generate.scheduler import Scheduler
from tunesmith.serve.engine.fair_queue import FairQueue
from tunesmith.serve.engine.jobs import ReplyEvent, ReplyJob, ScoreJob
from tunesmith.serve.engine.load import Load, LoadLimits
from tunesmith.serve.engine.running_reply import RunningReply
from tunesmith.serve.engine.stream import ReplyStream
from tunesmith.serve.refusals import RefusedRequest, failed, stopping

RETRY_AFTER = 1  # seconds
Delivery = list[tuple[ReplyStream, ReplyEvent | RefusedRequest]]


class ScoreTask:
    """A ScoreJob with the future that gets its result."""

    def __init__(self, job: ScoreJob) -> None:
        self.job, self.loop = job, asyncio.get_running_loop()
        self.future: asyncio.Future[list[TokenLogProbability]] = self.loop.create_future()


class EngineThread:
    """Generates the replies of one model. All methods but ``start`` and ``join`` are called in an asyncio loop.

    A job waits until a row of the scheduler is free; clients take turns. A cancelled reply gets no further step. An
    error of one reply ends it alone, for example if its logits are not finite. Any other error in a step ends the
    replies that are being generated; the thread goes on with an empty scheduler.

    engine: the model; nothing else uses it while the thread runs.
    limits: what is accepted.
    log: gets the text of an error that is not a client's.
    load: what the thread has to do and has done.
    """

    def __init__(self, engine: Engine, limits: LoadLimits, log: Callable[[str], None]) -> None:
        self.engine, self.limits, self.load = engine, limits, Load()
        self._log = log
        self._changed = threading.Condition()  # its lock is reentrant
        self._waiting = FairQueue[ReplyStream | ScoreTask]()
        self._cancelled: list[ReplyStream] = []
        self._accepting, self._ending = True, False
        self._running: dict[int, tuple[ReplyStream, RunningReply]] = {}  # by ticket; only the thread uses it
        self._tickets: dict[ReplyStream, int] = {}
        self._scheduler: Scheduler | None = None
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    @property
    def is_ready(self) -> bool:
        """Whether requests are accepted and the thread works."""
        return self._accepting and self._thread.is_alive()

    @property
    def is_idle(self) -> bool:
        """Whether no request waits and no reply is generated."""
        return self.load.waiting + self.load.running == 0

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, job: ReplyJob) -> ReplyStream:
        """Let a reply wait for its row. Raises RefusedRequest if too much is waiting, or if the server is stopping."""
        stream = ReplyStream(job, self._cancel)
        self._put(job, stream)
        return stream

    def submit_all(self, jobs: list[ReplyJob]) -> list[ReplyStream]:
        """As ``submit``, for several replies to one request: either all are accepted or none.

        Raises RefusedRequest also for more replies than ever wait, which would be refused each time.
        """
        if len(jobs) > self.limits.waiting or sum(job.tokens for job in jobs) > self.limits.tokens:
            what = f"{len(jobs)} replies are more than the server accepts at once. Send fewer prompts in a request."
            raise RefusedRequest(400, what, param="n", code="request_too_large")
        streams: list[ReplyStream] = []
        try:
            for job in jobs:
                streams.append(self.submit(job))
        except RefusedRequest:
            for stream in streams:
                stream.cancel()
            raise
        return streams

    async def score(self, job: ScoreJob) -> list[TokenLogProbability]:
        """The log-probability of every token of a text but the first. Raises as ``submit``."""
        task = ScoreTask(job)
        self._put(job, task)
        return await task.future

    def end(self) -> None:
        """Accept nothing more and end everything that waits or runs with an error."""
        with self._changed:
            self._accepting, self._ending = False, True
            self._changed.notify()

    def refuse_new(self) -> None:
        """Accept nothing more; what was accepted goes on."""
        self._accepting = False

    def join(self, timeout: float) -> None:
        """Wait for the end of the thread after ``end``."""
        self._thread.join(timeout)

    def _put(self, job: ReplyJob | ScoreJob, item: ReplyStream | ScoreTask) -> None:
        with self._changed:
            if not self._accepting:
                raise stopping()
            if len(self._waiting) >= self.limits.waiting or self.load.reserved + job.tokens > self.limits.tokens:
                self.load.refused += 1
                what = "The server is busy: its queue is full. Send the request again in a moment."
                raise RefusedRequest(429, what, code="queue_full", retry_after=RETRY_AFTER)
            self._waiting.put(job.client, item)
            self.load.waiting, self.load.reserved = len(self._waiting), self.load.reserved + job.tokens
            self._changed.notify()

    def _cancel(self, stream: ReplyStream) -> None:
        with self._changed:
            if self._waiting.remove(stream.job.client, stream):
                self._leave("cancelled", stream.job)
            else:
                self._cancelled.append(stream)
                self._changed.notify()

    def _leave(self, reason: str, job: ReplyJob | ScoreJob) -> None:
        """Count a job that has ended; the lock is held."""
        self.load.finished[reason] += 1
        self.load.reserved -= job.tokens
        self.load.waiting, self.load.running = len(self._waiting), len(self._running)

    def _run(self) -> None:
        """The body of the thread."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._cancelled or self._running or self._ending)
                if self._ending:
                    _deliver(self._drop_all(stopping(), "stopped"))
                    return
            try:
                _deliver(self._step())
            except Exception:
                self._log(traceback.format_exc())
                self.load.failures += 1
                with self._changed:
                    _deliver(self._drop_running() or self._drop_all(failed(), "failed"))

    def _step(self) -> Delivery:
        """Remove what was cancelled, begin what waits, and generate one token of every running reply."""
        if self._scheduler is None:
            self._scheduler = self.engine.scheduler(self.limits.replies)
        scheduler = self._scheduler
        scored, found = list[ScoreTask](), Delivery()
        with self._changed:
            cancelled, self._cancelled = self._cancelled, []
            for stream in cancelled:
                if (ticket := self._tickets.pop(stream, None)) is not None:
                    scheduler.cancel(ticket)
                    del self._running[ticket]
                    self._leave("cancelled", stream.job)
            while self._waiting and len(self._running) + len(scored) < self.limits.replies:
                item = self._waiting.take()
                if isinstance(item, ScoreTask):
                    scored.append(item)
                    continue
                try:
                    reply, ticket = RunningReply(item.job), scheduler.add(item.job.request)
                except Exception:
                    found += self._fail(item)
                    continue
                self._running[ticket], self._tickets[item] = (item, reply), ticket
                self.load.prompts += len(item.job.request.prompt)
            self.load.waiting, self.load.running = len(self._waiting), len(self._running)
        for task in scored:
            self._score(task)
        return found + self._generate(scheduler)

    def _generate(self, scheduler: Scheduler) -> Delivery:
        begin, found, not_finite = time.perf_counter(), Delivery(), list[int]()
        for token in scheduler.step(not_finite):
            stream, reply = self._running[token.ticket]
            try:
                event = reply.add(token)
            except Exception:
                scheduler.cancel(token.ticket)
                found += self._fail(stream)
                continue
            self.load.generated += 1
            if event is None:
                continue
            found.append((stream, event))
            if event.finish is not None:
                with self._changed:
                    if token.finish is None:
                        scheduler.cancel(token.ticket)  # its text has a stop text
                    del self._running[token.ticket], self._tickets[stream]
                    self._leave(event.finish, stream.job)
        for ticket in not_finite:
            found += self._fail(self._running[ticket][0], "the logits of the model are not finite")
        self.load.steps += bool(found)
        self.load.busy += time.perf_counter() - begin
        return found

    def _fail(self, stream: ReplyStream, why: str = "") -> Delivery:
        """End one reply because of an error that concerns no other one. why: by default the present exception."""
        self._log(why or traceback.format_exc())
        with self._changed:
            ticket = self._tickets.pop(stream, None)
            self._running.pop(-1 if ticket is None else ticket, None)
            self._leave("failed", stream.job)
        return [(stream, failed())]

    def _score(self, task: ScoreTask) -> None:
        if not task.future.cancelled():
            ids, size = task.job.ids, self.engine.renderer.tokenizer.size
            try:
                scores = score_text(self.engine.model, ids, task.job.alternatives, size)
                _call(task.loop, lambda: _set_result(task.future, scores))
            except Exception:
                self._log(traceback.format_exc())
                self.load.failures += 1
                _call(task.loop, lambda: _set_error(task.future, failed()))
            self.load.scored += len(ids)
        with self._changed:
            self._leave("scored", task.job)

    def _drop_running(self) -> Delivery:
        """End the running replies after an error; the lock is held."""
        streams = [stream for stream, _ in self._running.values()]
        self._running, self._tickets, self._scheduler = {}, {}, None
        for stream in streams:
            self._leave("failed", stream.job)
        return [(stream, failed()) for stream in streams]

    def _drop_all(self, reason: RefusedRequest, word: str) -> Delivery:
        """End everything that waits or runs; the lock is held."""
        found = Delivery()
        streams = [stream for stream, _ in self._running.values()]
        self._running, self._tickets = {}, {}
        while self._waiting:
            item = self._waiting.take()
            if isinstance(item, ScoreTask):
                _call(item.loop, lambda future=item.future: _set_error(future, reason))  # type: ignore[misc]
                self._leave(word, item.job)
            else:
                streams.append(item)
        for stream in streams:
            found.append((stream, reason))
            self._leave(word, stream.job)
        return found


def _deliver(events: Delivery) -> None:
    """Give events to their streams, with one call into each loop."""
    loops: dict[asyncio.AbstractEventLoop, Delivery] = defaultdict(list)
    for stream, event in events:
        loops[stream.loop].append((stream, event))
    for loop, part in loops.items():
        _call(loop, lambda part=part: [stream.deliver(event) for stream, event in part])  # type: ignore[misc]


def _call(loop: asyncio.AbstractEventLoop, function: Callable[[], object]) -> None:
    """Call a function in a loop, unless the loop has ended."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(function)


def _set_result(future: asyncio.Future[list[TokenLogProbability]], scores: list[TokenLogProbability]) -> None:
    if not future.done():
        future.set_result(scores)


def _set_error(future: asyncio.Future[list[TokenLogProbability]], error: RefusedRequest) -> None:
    if not future.done():
        future.set_exception(error)
