"""Requests are dealt to processes by a formula: each to one of them, those of a prompt together."""

from __future__ import annotations

import pytest

from tunesmith.generate.requests import ReplyRequest, deal_requests
from tunesmith.generate.sampling import SamplingParameters


def requests_of(prompts: int, samples: int) -> list[ReplyRequest]:
    """Prompts of different lengths, with several replies each."""
    sampling = SamplingParameters(max_new_tokens=20)
    return [
        ReplyRequest((prompt, *[0] * (prompt % 7)), sampling, 0, sample)
        for prompt in range(prompts)
        for sample in range(samples)
    ]


@pytest.mark.parametrize("processes", [1, 2, 3, 8])
@pytest.mark.parametrize(("prompts", "samples"), [(0, 0), (1, 64), (5, 3), (200, 4)])
def test_every_request_belongs_to_one_process(prompts: int, samples: int, processes: int) -> None:
    shares = deal_requests(requests_of(prompts, samples), processes)
    assert len(shares) == processes
    assert sorted(number for share in shares for number in share) == list(range(prompts * samples))


def test_requests_of_a_prompt_stay_together_where_there_are_many_prompts() -> None:
    requests = requests_of(200, 4)
    shares = deal_requests(requests, 8)
    owners = [{requests[number].prompt for number in share} for share in shares]
    assert sum(map(len, owners)) == 200
    assert max(map(len, shares)) <= 1.1 * min(map(len, shares))


def test_a_single_prompt_is_shared_by_all_processes() -> None:
    assert {len(share) for share in deal_requests(requests_of(1, 64), 8)} == {8}
