"""What is accepted: all of the queue for a client that is alone, and a share of it while others want something."""

from __future__ import annotations

import pytest

from tunesmith.serve.engine.admission import REMEMBERED, SHARE, Admission
from tunesmith.serve.engine.clients import JobClient
from tunesmith.serve.engine.jobs import ScoreJob
from tunesmith.serve.engine.load import LoadLimits
from tunesmith.serve.refusals import RefusedRequest

LIMITS = LoadLimits(waiting=8, tokens=80)


class Queue:
    """The jobs that were accepted, all of which wait. seconds: what the clock says."""

    def __init__(self) -> None:
        self.seconds, self.jobs = 0.0, list[ScoreJob]()
        self.admission = Admission(LIMITS, lambda: self.seconds)

    def ask(self, address: str, tokens: int = 1, count: int = 1) -> str:
        """The code of the refusal; empty if the jobs were accepted."""
        jobs = [ScoreJob((1,) * tokens, 0, JobClient(address)) for _ in range(count)]
        own = sum(job.client.address == address for job in self.jobs)
        try:
            self.admission.accept(jobs, len(self.jobs), own)
        except RefusedRequest as refused:
            return str(refused.code) if (refused.status, refused.retry_after) == (429, 1) else repr(refused)
        self.jobs += jobs
        return ""

    def end(self, address: str) -> None:
        """End the oldest job of a client."""
        job = next(job for job in self.jobs if job.client.address == address)
        self.jobs.remove(job)
        self.admission.leave(job)


def test_a_client_that_is_alone_may_have_everything() -> None:
    queue = Queue()
    assert [queue.ask("a") for _ in range(9)] == [""] * 8 + ["queue_full"]
    queue = Queue()
    assert [queue.ask("a", 40) for _ in range(3)] == ["", "", "queue_full"]
    assert queue.admission.reserved == LIMITS.tokens


@pytest.mark.parametrize("tokens", [1, 10])
def test_while_another_one_waits_a_client_gets_no_more_than_its_share(tokens: int) -> None:
    queue, most = Queue(), int(SHARE * LIMITS.waiting)
    assert queue.ask("b") == ""
    assert [queue.ask("a", tokens) for _ in range(most + 1)] == [""] * most + ["share_full"]
    assert queue.ask("b", tokens) == ""


def test_what_becomes_free_is_for_the_one_that_was_refused() -> None:
    queue = Queue()
    assert [queue.ask("a") for _ in range(8)] == [""] * 8
    assert queue.ask("b") == "queue_full"
    queue.end("a")
    assert queue.ask("a") == "share_full"
    assert queue.ask("b") == ""


def test_a_refusal_is_forgotten_after_a_while() -> None:
    queue = Queue()
    assert [queue.ask("a") for _ in range(8)] == [""] * 8
    assert queue.ask("b") == "queue_full"
    queue.end("a")
    queue.seconds = REMEMBERED + 1
    assert queue.ask("a") == ""


def test_the_first_request_of_a_client_may_be_larger_than_its_share() -> None:
    queue = Queue()
    assert queue.ask("b") == ""
    assert queue.ask("a", count=7) == ""
    assert queue.ask("a") == "queue_full"


def test_several_replies_to_one_request_are_accepted_together_or_not_at_all() -> None:
    queue = Queue()
    assert queue.ask("a", count=5) == ""
    assert queue.ask("b", count=4) == "queue_full"
    assert len(queue.jobs) == 5
    assert queue.ask("b", count=3) == ""


def test_nothing_is_left_when_all_jobs_have_ended() -> None:
    queue = Queue()
    for address in "abc":
        queue.ask(address, 5, 2)
    for address in "abcabc":
        queue.end(address)
    assert queue.admission.reserved == 0
    assert [queue.ask("a") for _ in range(8)] == [""] * 8
