"""The thread of one model: it drives the scheduler of ``generate`` for the requests of all clients."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence

from tunesmith.generate.engine import Engine
from tunesmith.generate.prompt_scores import PART_TOKENS
from tunesmith.generate.row_sampler import TokenLogProbability
from tunesmith.generate.scheduler import Scheduler
from tunesmith.serve.engine.admission import Admission
from tunesmith.serve.engine.fair_queue import FairQueue
from tunesmith.serve.engine.jobs import ReplyEvent, ReplyJob, ScoreJob
from tunesmith.serve.engine.load import Load, LoadLimits
from tunesmith.serve.engine.running_reply import RunningReply
from tunesmith.serve.engine.scoring import ScoreTask
from tunesmith.serve.engine.stream import ReplyStream
from tunesmith.serve.log_entry import Log, LogEntry, failure_entry
from tunesmith.serve.refusals import RefusedRequest, failed, stopping

Delivery = list[tuple[ReplyStream, ReplyEvent | RefusedRequest]]


class EngineThread:
    """Generates the replies of one model. All methods but ``start`` and ``join`` are called in an asyncio loop.

    A job waits until a row of the scheduler is free; clients take turns. A cancelled reply gets no further step. Texts
    are scored in parts between the steps, so the replies go on. An error of one reply ends it alone, for example if its
    logits are not finite. Any other error in a step ends the replies that are being generated; the thread goes on with
    an empty scheduler.

    engine: the model; nothing else uses it while the thread runs.
    limits: what is accepted.
    log: gets the errors that are not a client's.
    load: what the thread has to do and has done.
    """

    def __init__(self, engine: Engine, limits: LoadLimits, log: Log) -> None:
        self.engine, self.limits, self.load = engine, limits, Load()
        self._log = log
        self._changed = threading.Condition()  # its lock is reentrant
        self._waiting, self._scores = FairQueue[ReplyStream](), FairQueue[ScoreTask]()
        self._admission = Admission(limits)
        self._scoring: ScoreTask | None = None
        self._refusal: Callable[[], RefusedRequest] = stopping
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
        return self._submit([job])[0]

    def submit_all(self, jobs: list[ReplyJob]) -> list[ReplyStream]:
        """As ``submit``, for several replies to one request: either all are accepted or none.

        Raises RefusedRequest also for more replies than ever wait, which would be refused each time.
        """
        if len(jobs) > self.limits.waiting or sum(job.tokens for job in jobs) > self.limits.tokens:
            what = f"{len(jobs)} replies are more than the server accepts at once. Send fewer prompts in a request."
            raise RefusedRequest(400, what, param="n", code="request_too_large")
        return self._submit(jobs) if jobs else []

    async def score(self, job: ScoreJob) -> list[TokenLogProbability]:
        """The log-probability of every token of a text but the first. Raises as ``submit``.

        If the caller is cancelled, nothing of the text is scored after the present part.
        """
        task = ScoreTask(job)
        with self._changed:
            self._accept([job])
            self._scores.put(job.client, task)
            self._count()
        try:
            return await task.future
        finally:
            with self._changed:
                if self._scores.remove(job.client, task):
                    self._leave("cancelled", job)

    def end(self, refusal: Callable[[], RefusedRequest] = stopping) -> None:
        """Accept nothing more and end everything that waits or runs. refusal: the error that says why."""
        with self._changed:
            self._refusal, self._accepting, self._ending = refusal, False, True
            self._changed.notify()

    def refuse_new(self) -> None:
        """Accept nothing more; what was accepted goes on."""
        self._accepting = False

    def join(self, timeout: float) -> None:
        """Wait for the end of the thread after ``end``."""
        self._thread.join(timeout)

    def _submit(self, jobs: Sequence[ReplyJob]) -> list[ReplyStream]:
        """Let replies to one request wait. Raises RefusedRequest."""
        streams = [ReplyStream(job, self._cancel) for job in jobs]
        with self._changed:
            self._accept(jobs)
            for stream in streams:
                self._waiting.put(stream.job.client, stream)
            self._count()
        return streams

    def _accept(self, jobs: Sequence[ReplyJob | ScoreJob]) -> None:
        """Accept jobs of one client, which the caller lets wait; the lock is held. Raises RefusedRequest."""
        if not self._accepting:
            raise self._refusal()
        address = jobs[0].client.address
        own = self._waiting.count(address) + self._scores.count(address)
        try:
            self._admission.accept(jobs, len(self._waiting) + len(self._scores), own)
        except RefusedRequest:
            self.load.refused += 1
            raise
        self._changed.notify()

    def _count(self) -> None:
        """Bring the numbers about what waits and runs up to date; the lock is held."""
        scoring = len(self._scores) + (self._scoring is not None)
        self.load.waiting, self.load.running = len(self._waiting) + scoring, len(self._running)
        self.load.reserved = self._admission.reserved

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
        self._admission.leave(job)
        self._count()

    @property
    def _has_work(self) -> bool:
        """Whether there is something to do; the lock is held."""
        queued = self._waiting or self._scores or self._scoring
        return bool(queued or self._cancelled or self._running or self._ending)

    def _run(self) -> None:
        """The body of the thread."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._has_work)
                if self._ending:
                    _deliver(self._drop_all(self._refusal(), "stopped"))
                    return
            try:
                _deliver(self._step())
            except Exception as error:
                self._log(failure_entry(error, "A step failed, and the replies that were generated have ended."))
                self.load.failures += 1
                with self._changed:
                    _deliver(self._drop_running() or self._drop_all(failed(), "failed"))

    def _step(self) -> Delivery:
        """Remove what was cancelled, begin what waits, score a part, and generate a token of every running reply."""
        if self._scheduler is None:
            self._scheduler = self.engine.scheduler(self.limits.replies)
        scheduler = self._scheduler
        found = Delivery()
        with self._changed:
            cancelled, self._cancelled = self._cancelled, []
            for stream in cancelled:
                if (ticket := self._tickets.pop(stream, None)) is not None:
                    scheduler.cancel(ticket)
                    del self._running[ticket]
                    self._leave("cancelled", stream.job)
            while self._waiting and len(self._running) < self.limits.replies:
                stream = self._waiting.take()
                try:
                    reply, ticket = RunningReply(stream.job), scheduler.add(stream.job.request)
                except Exception as error:
                    found += self._fail(stream, failure_entry(error))
                    continue
                self._running[ticket], self._tickets[stream] = (stream, reply), ticket
                self.load.prompts += len(stream.job.request.prompt)
            self._count()
        self._score()
        return found + self._generate(scheduler)

    def _generate(self, scheduler: Scheduler) -> Delivery:
        begin, found, not_finite = time.perf_counter(), Delivery(), list[int]()
        for token in scheduler.step(not_finite):
            stream, reply = self._running[token.ticket]
            try:
                event = reply.add(token)
            except Exception as error:
                scheduler.cancel(token.ticket)
                found += self._fail(stream, failure_entry(error))
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
            entry = LogEntry("The logits of the model are not finite.", "error")
            found += self._fail(self._running[ticket][0], entry)
        self.load.steps += bool(found)
        self.load.busy += time.perf_counter() - begin
        return found

    def _fail(self, stream: ReplyStream, why: LogEntry) -> Delivery:
        """End one reply because of an error that concerns no other one."""
        self._log(why)
        with self._changed:
            ticket = self._tickets.pop(stream, None)
            self._running.pop(-1 if ticket is None else ticket, None)
            self._leave("failed", stream.job)
        return [(stream, failed())]

    def _score(self) -> None:
        """Score about as many tokens as one part has: of the text that was begun, and then of those that wait."""
        spent = 0
        while spent < PART_TOKENS:
            with self._changed:
                if self._scoring is None and self._scores:
                    self._scoring = self._scores.take()
            task = self._scoring
            if task is None:
                return
            if task.is_cancelled:
                self._end_score(task, "cancelled")
                continue
            try:
                count = task.score_part(self.engine)
            except Exception as error:
                self._log(failure_entry(error, "A text could not be scored."))
                self.load.failures += 1
                self._end_score(task, "failed")
                task.finish(failed())
                continue
            if count is None:
                self.load.scored += len(task.job.ids)
                self._end_score(task, "scored")
                task.finish(task.found)
            spent += count or 0

    def _end_score(self, task: ScoreTask, reason: str) -> None:
        with self._changed:
            self._scoring = None
            self._leave(reason, task.job)

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
            streams.append(self._waiting.take())
        tasks, self._scoring = [] if self._scoring is None else [self._scoring], None
        while self._scores:
            tasks.append(self._scores.take())
        for task in tasks:
            task.finish(reason)
            self._leave(word, task.job)
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
