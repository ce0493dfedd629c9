"""The families of bad files: each is refused with its error, its place and its reason, and its neighbours are read."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from tests.data.bad_files import BAD_FILES, Bad, parquet
from tests.data.bad_texts import BAD_TEXTS, FAMILIES, GOOD_TEXTS
from tests.data.sources.test_source import read, read_until_error
from tunesmith.data.sources.source import rows
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
    with pytest.raises(MissingInputError, match="names a user without a home directory; write the directory out"):
        list(rows("~nobody-of-that-name/a.jsonl"))


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


@pytest.mark.parametrize("checksum", [False, True])
def test_a_flipped_bit_in_a_parquet_file_never_leaves_a_row_out(checksum: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pyarrow.table({"a": [f"text {number}" for number in range(6)], "b": [None, 1, 2, 3, 4, 5]})
    pyarrow.parquet.write_table(table, path, write_page_checksum=checksum, compression="none", use_dictionary=False)
    whole, changed = path.read_bytes(), 0
    for bit in range(0, 8 * len(whole), 11):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(damaged)
        count, error = read_until_error(path)
        assert type(error) is DataError or (error is None and count == 6), (bit, error)
        changed += error is None and [list(row.value.values()) for row in read(path)] != [
            list(r.values()) for r in table.to_pylist()
        ]
    assert changed < 5 if checksum else changed > 5  # the names of columns have no checksum


def test_without_the_comparison_a_flipped_count_would_leave_rows_out(tmp_path: Path) -> None:
    whole = parquet({"a": [1, 2, 3, 4, 5, 6]})
    path, found = tmp_path / "a.parquet", []
    for position in (index for index, byte in enumerate(whole) if byte == 12):  # 6 as a footer writes it; 8 is 4
        path.write_bytes(whole[:position] + b"\x08" + whole[position + 1 :])
        found.append(str(read_until_error(path)[1]))
    assert any("it has 6 rows, but its footer claims 4" in message for message in found)
    assert any("it has 4 rows, but its footer claims 6" in message for message in found)
