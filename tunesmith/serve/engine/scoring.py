"""A text whose tokens are scored part by part, between the steps of the replies that are generated."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from tunesmith.generate.engine import Engine
from tunesmith.generate.prompt_scores import score_parts
from tunesmith.generate.row_sampler import TokenLogProbability
from tunesmith.serve.engine.jobs import ScoreJob
from tunesmith.serve.refusals import RefusedRequest

Scores = list[TokenLogProbability]


class ScoreTask:
    """A job with the future that gets its result. It is created in the loop that waits for the result.

    job: what is scored.
    found: the scores so far.
    """

    def __init__(self, job: ScoreJob) -> None:
        self.job, self.found = job, Scores()
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Scores] = self._loop.create_future()
        self._parts: Iterator[Scores] | None = None

    @property
    def is_cancelled(self) -> bool:
        """Whether nobody waits for the result any longer."""
        return self.future.cancelled()

    def score_part(self, engine: Engine) -> int | None:
        """Score the next part with the model that the thread drives. Returns its tokens, None if there is none."""
        if self._parts is None:
            size = engine.renderer.tokenizer.size
            self._parts = score_parts(engine.model, self.job.ids, self.job.alternatives, size)
        part = next(self._parts, None)
        if part is None:
            return None
        self.found += part
        return len(part) + 1

    def finish(self, result: Scores | RefusedRequest) -> None:
        """Give the result, or the reason why there is none, to whoever waits for it."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._settle, result)

    def _settle(self, result: Scores | RefusedRequest) -> None:
        if self.future.done():
            return
        if isinstance(result, RefusedRequest):
            self.future.set_exception(result)
        else:
            self.future.set_result(result)
