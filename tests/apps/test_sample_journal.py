"""The journal of unfinished sampling: torn lines, other settings, two processes."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunesmith.apps.sample_journal import FORMAT, START, JournalReply, ReplyJournal, ReplyPlace
from tunesmith.errors import LockedError, StorageError, UsageError

FIRST, SECOND = "2026-01-02T03:04:05.678901", "2026-01-03T03:04:05"
INPUTS: dict[str, Any] = {"seed": 1, "prompts": "abc"}
REPLIES = {
    ReplyPlace(number, number % 2, 0): JournalReply(f"reply {number}\n\u2028ü</s>", 4 * (number % 3 > 0), number)
    for number in range(5)
}


def journal(path: Path, date: str = FIRST) -> ReplyJournal:
    return ReplyJournal(path, date, INPUTS)


def fill(path: Path) -> bytes:
    with journal(path) as opened:
        for place, reply in REPLIES.items():
            opened.append(place, reply)
    return path.read_bytes()


def test_a_reply_knows_its_text_without_the_end_token() -> None:
    assert (JournalReply("a</s>", 4, 2).text, JournalReply("a</s>", 0, 2).text) == ("a", "a</s>")


def test_replies_and_the_first_date_are_found_again(tmp_path: Path) -> None:
    fill(tmp_path / "new" / "j")
    with journal(tmp_path / "new" / "j", SECOND) as again:
        assert (again.replies, again.date) == (REPLIES, FIRST)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_a_journal_that_is_cut_anywhere_continues_to_the_same_bytes(tmp_path: Path, data: st.DataObject) -> None:
    whole = fill(tmp_path / "whole")
    (tmp_path / "whole").unlink()
    cut = data.draw(st.integers(0, len(whole)))
    tail = data.draw(st.sampled_from([b"", b"\x00" * 9, b"\x00\n", b"[1,2]\n", b"\xff"])) if cut else b""
    path = tmp_path / "cut"
    path.write_bytes(whole[:cut] + tail)
    first_line = whole.index(b"\n") + 1
    if cut < first_line and tail and (cut < len(START) or tail.endswith(b"\n")):
        with pytest.raises(UsageError, match="in the way"):
            journal(path)
        return
    with journal(path) as opened:
        assert opened.replies.items() <= REPLIES.items()
        for place, reply in list(REPLIES.items())[len(opened.replies) :]:
            opened.append(place, reply)
    assert path.read_bytes() == whole


def test_a_journal_of_other_settings_is_refused_and_kept(tmp_path: Path) -> None:
    before = fill(tmp_path / "j")
    with pytest.raises(UsageError, match=r"j: this unfinished report has other settings \(seed, limit\)"):
        ReplyJournal(tmp_path / "j", SECOND, {**INPUTS, "seed": 2, "limit": 3})
    assert (tmp_path / "j").read_bytes() == before


def test_another_file_in_its_place_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "j").write_text("my notes\n")
    with pytest.raises(UsageError, match="in the way of an unfinished report; move it away"):
        journal(tmp_path / "j")
    assert (tmp_path / "j").read_text() == "my notes\n"


@pytest.mark.parametrize(
    "header",
    [
        {"format": FORMAT, "date": "../../x", "inputs": INPUTS},
        {"format": FORMAT, "date": "2026-01-02/../../x", "inputs": INPUTS},
        {"format": FORMAT, "date": "2026-01-02T03:04:05/x", "inputs": INPUTS},
        {"format": "another format", "date": FIRST, "inputs": INPUTS},
        {"date": FIRST, "inputs": INPUTS},
    ],
)
def test_a_journal_with_another_format_or_no_date_is_refused_and_kept(tmp_path: Path, header: dict[str, Any]) -> None:
    """The date is part of the name of the report, which must stay in its directory."""
    (tmp_path / "j").write_text(line := json.dumps(header) + "\n")
    with pytest.raises(UsageError, match="in the way of an unfinished report"):
        journal(tmp_path / "j")
    assert (tmp_path / "j").read_text() == line


@pytest.mark.parametrize("place", [(0, 0, 0), (0, 0, -1)])
@pytest.mark.parametrize(("end", "tokens"), [(-5, 3), (4, 3), (0, -1), (3, 3)])
def test_an_impossible_reply_is_removed_with_all_lines_after_it(
    tmp_path: Path, place: tuple[int, int, int], end: int, tokens: int
) -> None:
    with journal(tmp_path / "j") as opened:
        opened.append(ReplyPlace(4, 0, 0), JournalReply("first", 0, 2))
        opened.append(ReplyPlace(*place), JournalReply("xyz", end, tokens))
        opened.append(ReplyPlace(5, 0, 0), JournalReply("last", 0, 2))
    kept = 3 if (min(place), end, tokens) == (0, 3, 3) else 1
    with journal(tmp_path / "j") as again:
        assert len(again.replies) == kept
    assert len((tmp_path / "j").read_bytes().splitlines()) == kept + 1


def test_only_one_process_may_write_it(tmp_path: Path) -> None:
    with journal(tmp_path / "j"), pytest.raises(LockedError, match="another process is writing this report"):
        journal(tmp_path / "j")


def test_it_is_gone_when_it_is_removed(tmp_path: Path) -> None:
    with journal(tmp_path / "j") as opened:
        opened.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot write"):
        journal(tmp_path / "file" / "j")


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file grows beyond ``size`` bytes in the block, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_is_one_error_and_the_next_process_continues(tmp_path: Path) -> None:
    expected = fill(tmp_path / "whole")
    with largest_file(len(expected) - 20), pytest.raises(StorageError, match="give the same command again"):
        fill(tmp_path / "j")
    with journal(tmp_path / "j") as again:
        assert len(again.replies) == len(REPLIES) - 1
        for place, reply in list(REPLIES.items())[-1:]:
            again.append(place, reply)
    assert (tmp_path / "j").read_bytes() == expected


def test_a_disk_that_is_full_from_the_start_is_one_error(tmp_path: Path) -> None:
    with largest_file(20), pytest.raises(StorageError, match="give the same command again"):
        journal(tmp_path / "j")
