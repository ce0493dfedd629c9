"""A journal gives back exactly what was added, whatever a killed process left behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.benchmark.journal import Journal

RESULTS = st.lists(st.tuples(st.integers(0, 5), st.floats(allow_nan=False, allow_infinity=False), st.booleans()))


@settings(deadline=None)
@given(results=RESULTS, cut=st.integers(0, 400), rest=st.binary(max_size=8))
def test_a_journal_that_was_cut_anywhere_keeps_its_complete_lines(
    results: list[tuple[int, float, bool]], cut: int, rest: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("journal")
    journal = Journal(directory, {"a": 1})
    for number, result in enumerate(results):
        journal.add(number, list(result))
    content = journal.path.read_bytes() if journal.path.exists() else b""
    kept = content[:cut]
    directory.mkdir(exist_ok=True)
    journal.path.write_bytes(kept + (rest.replace(b"\n", b"") if len(kept) < len(content) else b""))
    again = Journal(directory, {"a": 1})
    complete = kept.count(b"\n")
    assert [again.find(number) for number in range(complete)] == [list(each) for each in results[:complete]]
    again.add(complete + 7, "more")
    assert Journal(directory, {"a": 1}).find(complete + 7) == "more"


def test_another_identity_has_another_journal(tmp_path: Path) -> None:
    Journal(tmp_path, {"model": "a"}).add(0, 1.5)
    assert Journal(tmp_path, {"model": "b"}).find(0) is None
    assert Journal(tmp_path, {"model": "a"}).find(0) == 1.5


def test_a_number_that_is_not_finite_is_not_kept(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range"):
        Journal(tmp_path, {}).add(0, float("nan"))


@pytest.mark.parametrize("line", [b"[" * 100_000, b'{"a":' * 100_000, b"[0," + b"1" * 5000 + b"]"])
def test_a_line_that_no_journal_writes_ends_what_is_kept(line: bytes, tmp_path: Path) -> None:
    journal = Journal(tmp_path, {})
    journal.add(0, [1.5])
    before = journal.path.read_bytes()
    journal.path.write_bytes(before + line + b"\n")
    again = Journal(tmp_path, {})
    assert again.find(0) == [1.5]
    assert journal.path.read_bytes() == before
