"""Some of the faults of tests/campaigns/push_faults.py, three of each kind: no upload is half published."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.publish.hub.faults import (
    KINDS,
    OPEN,
    Case,
    count_requests,
    publish,
    refusing,
    try_case,
    without_waiting,
    write_files,
)
from tests.publish.hub.server import serve_hub
from tunesmith.errors import StorageError
from tunesmith.publish.hub.contents import PublishedFile

TRIED = 3


@pytest.fixture(scope="module")
def waited() -> Iterator[list[float]]:
    with without_waiting() as found:
        yield found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[PublishedFile]:
    return write_files(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def requests(waited: list[float], files: list[PublishedFile]) -> dict[bool, int]:
    return {older: count_requests(files, older=older) for older in (False, True)}


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_fails_the_main_branch_is_old_or_new_and_the_next_upload_completes_it(
    kind: str | int, requests: dict[bool, int], files: list[PublishedFile], waited: list[float]
) -> None:
    first = KINDS.index(kind)
    for number in range(TRIED):
        older = (first + number) % 2 == 0
        request = (first + number * len(KINDS)) * requests[older] // (TRIED * len(KINDS))
        case = Case(kind, request, number == 1, older)
        assert not try_case(case, files, waited).broken, str(case)


def test_a_hub_that_fails_for_good_is_tried_a_limited_number_of_times(
    files: list[PublishedFile], waited: list[float]
) -> None:
    outcome = try_case(Case(503, 4, True, False), files, waited)
    assert not outcome.broken
    assert outcome.error
    assert "HTTP 503" in outcome.error
    assert 0 < outcome.waited < 60


def test_a_connection_that_is_refused_is_an_error_with_what_to_do(
    files: list[PublishedFile], waited: list[float]
) -> None:
    with serve_hub() as hub, refusing(0, lasting=True), pytest.raises(StorageError, match=r"refused.*run the same"):
        publish(hub, files, OPEN)
