"""Which jobs are accepted: how much may wait, and how much of it one client may have while others want something."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence

from tunesmith.serve.engine.jobs import ReplyJob, ScoreJob
from tunesmith.serve.engine.load import LoadLimits
from tunesmith.serve.refusals import RefusedRequest

RETRY_AFTER = 1
"""Seconds after which a refused request may be sent again."""

REMEMBERED = 10.0
"""Seconds for which a client whose request was refused counts as one that wants something."""

SHARE = 0.75
"""The part of the waiting requests and of the tokens that one address may have while others want something."""


class Admission:
    """Decides whether jobs are accepted. A lock of the caller protects it.

    An address that is alone may have everything. As soon as another one has a job, or was refused one a moment ago, the
    first one gets nothing more above its share; what it has already goes on. So the place that becomes free is for the
    others.

    limits: of all clients together.
    clock: seconds that only grow.
    reserved: tokens that the accepted jobs may come to hold.
    """

    def __init__(self, limits: LoadLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits, self._clock = limits, clock
        self._held: Counter[str] = Counter()  # tokens by address
        self._refused: dict[str, float] = {}  # address -> when a job of it was refused last
        self.reserved = 0

    def accept(self, jobs: Sequence[ReplyJob | ScoreJob], waiting: int, own: int) -> None:
        """Accept all of some jobs of one client. Raises RefusedRequest if that is not possible now.

        waiting, own: how many jobs wait, and how many of them are of the same address.
        """
        address, tokens, limits = jobs[0].client.address, sum(job.tokens for job in jobs), self._limits
        if waiting + len(jobs) > limits.waiting or self.reserved + tokens > limits.tokens:
            raise self._refusal(address, "The server is busy: its queue is full.", "queue_full")
        held = self._held[address]
        over = own + len(jobs) > SHARE * limits.waiting or held + tokens > SHARE * limits.tokens
        if over and held and self._is_wanted_by_others(address):
            what = "The server is busy: others wait, and this address has its share of the queue."
            raise self._refusal(address, what, "share_full")
        self._held[address] += tokens
        self.reserved += tokens
        self._refused.pop(address, None)

    def leave(self, job: ReplyJob | ScoreJob) -> None:
        """A job that was accepted has ended."""
        self.reserved -= job.tokens
        self._held[job.client.address] -= job.tokens
        if not self._held[job.client.address]:
            del self._held[job.client.address]

    def _refusal(self, address: str, what: str, code: str) -> RefusedRequest:
        self._forget()
        self._refused[address] = self._clock()
        what = f"{what} Send the request again in a moment."
        return RefusedRequest(429, what, code=code, retry_after=RETRY_AFTER)

    def _is_wanted_by_others(self, address: str) -> bool:
        self._forget()
        return any(other != address for other in (*self._held, *self._refused))

    def _forget(self) -> None:
        oldest = self._clock() - REMEMBERED
        self._refused = {address: when for address, when in self._refused.items() if when > oldest}
