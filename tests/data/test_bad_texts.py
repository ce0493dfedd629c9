"""The families of bad files: each is refused with its error, its place and its reason, and its neighbours are read."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from tests.data.bad_files import BAD_FILES, Bad
from tests.data.bad_texts import BAD_TEXTS, FAMILIES, GOOD_TEXTS
from tests.data.test_sources import read, read_until_error
from tunesmith.data.faults import LONGEST, Fault, Faults, one_line
from tunesmith.data.sources import SourceSpec, rows
from tunesmith.errors import DataError, MissingInputError


@pytest.mark.parametrize("bad", BAD_TEXTS.values(), ids=BAD_TEXTS.keys())
def test_a_bad_file_is_refused_with_its_place_and_reason(bad: Bad, tmp_path: Path) -> None:
    path = bad.write(tmp_path)
    count, error = read_until_error(path)
    assert error is not None
    assert (type(error), error.exit_code) == (bad.error, bad.error.exit_code), error
    assert bad.says in error.what
    assert str(error.where).startswith(str(path))
    assert str(error.where).endswith(bad.where)
    assert len(error.what) < 300
    assert "\n" not in error.what
    assert count == bad.good_rows


@pytest.mark.parametrize(("name", "content", "count"), GOOD_TEXTS.values(), ids=GOOD_TEXTS.keys())
def test_a_good_neighbour_is_read(name: str, content: bytes, count: int, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert len(read(tmp_path / name)) == count


def test_every_family_has_a_good_neighbour() -> None:
    assert {name.split(":")[0] for name in GOOD_TEXTS} == set(FAMILIES)


def test_there_are_many_bad_files() -> None:
    assert len(BAD_TEXTS) + len(BAD_FILES) > 600


def test_a_home_directory_that_is_not_there_is_missing_input() -> None:
    with pytest.raises(MissingInputError, match="names a user without a home directory; write it out"):
        list(rows(SourceSpec("data", "~nobody-of-that-name/a.jsonl", "dolly")))


def test_a_flipped_bit_anywhere_in_a_packed_file_is_refused_or_harmless(tmp_path: Path) -> None:
    records = [{"a": f"{index * 7919 % 10007:x}"} for index in range(30)]
    whole = gzip.compress("".join(json.dumps(record) + "\n" for record in records).encode(), mtime=0)
    path = tmp_path / "a.jsonl.gz"
    harmless = set()
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(damaged)
        count, error = read_until_error(path)
        if error is None:
            assert [row.value for row in read(path)] == records
            harmless.add(bit // 8)
        else:
            assert (type(error), count) == (DataError, 0), (bit, error)
    assert harmless <= {*range(3, 10), *range(len(whole) - 11, len(whole) - 8)}  # header; padding behind the last code


def test_messages_hold_no_line_breaks_no_escapes_and_no_novels() -> None:
    faults = Faults()
    faults.add([Fault(1, "field '\x1b[31m\n\u202e' is " + "x" * 9999, "a.jsonl:1", "look at \x07")])
    with pytest.raises(DataError) as caught:
        faults.check()
    assert str(caught.value).startswith("a.jsonl:1: field '\\x1b[31m\\n\\u202e' is xxx")
    assert str(caught.value).isprintable()
    assert len(caught.value.what) < LONGEST + 20
    assert one_line("ein Fluß 河 🤖") == "ein Fluß 河 🤖"
