"""Reading files: what is whole is read alike in every form, everything else is refused with its place."""

from __future__ import annotations

import gzip
import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.bad_files import BAD_FILES, GOOD, LINES, Bad, cut_parquet
from tests.data.small_runs import write
from tunesmith.data.sources import files as inputs
from tunesmith.data.sources import json_files, strict_json
from tunesmith.data.sources import source as sources
from tunesmith.data.sources.rows import PlainRow
from tunesmith.data.sources.source import rows
from tunesmith.errors import DataError, MissingInputError, RecipeError, TunesmithError

RECORDS = [
    {"instruction": "a\u2028b\u0085c", "context": "", "response": "d\u2029\r\n\x7fe"},
    {"instruction": "Ünïcödé 🤖👩‍👩‍👧", "context": "line\nbreak\ttab", "response": '"quoted" \\ back'},
    {"instruction": "x" * 3000, "context": "2023-01-01T00:00:00", "response": "12"},
]


def read(path: Path | str) -> list[PlainRow]:
    return list(rows(str(path)))


def values(path: Path) -> list[dict[str, Any]]:
    return [dict(row.value) for row in read(path)]


def read_until_error(path: Path) -> tuple[int, TunesmithError | None]:
    """How many rows came out before the error, and the error."""
    count = 0
    try:
        for _ in rows(str(path)):
            count += 1
    except TunesmithError as error:
        return count, error
    return count, None


@pytest.mark.parametrize("bad", BAD_FILES.values(), ids=BAD_FILES.keys())
def test_a_bad_file_is_refused_with_its_place(bad: Bad, tmp_path: Path) -> None:
    path = bad.write(tmp_path)
    count, error = read_until_error(path)
    assert type(error) is bad.error, error
    assert bad.says in error.what
    assert error.where is not None
    assert error.where.startswith(str(path))
    assert bad.where in error.where
    assert "\n" not in str(error)
    assert len(str(error)) < 400 + len(str(path))
    assert count == bad.good_rows


def test_there_are_enough_bad_files() -> None:
    assert len(BAD_FILES) > 130


FORMS = (
    *("a.jsonl", "a.ndjson.jsonl", "a.json", "a.jsonl.gz", "a.json.gz", "a.parquet", "A.JSONL"),
    *("a.csv", "a.tsv", "a.csv.gz", "a.tsv.gz"),
)


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_records(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, RECORDS) if name != "A.JSONL" else tmp_path / name
    if name == "A.JSONL":
        path.write_bytes(write(tmp_path / "a.jsonl", RECORDS).read_bytes())
    assert values(path) == RECORDS


@settings(max_examples=40, deadline=None)
@given(st.lists(st.fixed_dictionaries({"a": st.text(), "b": st.text()}), min_size=1, max_size=8))
def test_any_text_comes_back_from_every_form(
    tmp_path_factory: pytest.TempPathFactory, records: list[dict[str, str]]
) -> None:
    records = [{key: text.replace("\0", " ") for key, text in record.items()} for record in records]
    directory = tmp_path_factory.mktemp("forms")
    for name in ("a.jsonl", "a.json", "a.jsonl.gz", "a.parquet"):
        assert values(write(directory / name, records)) == records
    filled = [record for record in records if any(map(str.strip, record.values()))]
    for name in ("a.csv", "a.tsv", "a.csv.gz") if filled else ():
        assert values(write(directory / name, records)) == filled


def test_places_name_the_line_or_row(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n" + LINES + b"\r\n" + GOOD)
    assert [row.place for row in read(path)] == [f"{path}:2", f"{path}:4"]
    path = tmp_path / "a.json"
    path.write_bytes(b"\n [\n" + GOOD + b",\n\n" + GOOD + b"," + GOOD + b"]")
    assert [row.place for row in read(path)] == [f"{path}:3[0]", f"{path}:5[1]", f"{path}:5[2]"]
    path = write(tmp_path / "a.parquet", RECORDS)
    assert [row.place for row in read(path)] == [f"{path}:row {number}" for number in (1, 2, 3)]


@pytest.mark.parametrize("content", [LINES * 3, b"\xef\xbb\xbf" + LINES * 3, LINES.replace(b"\n", b"\r\n") * 3])
@pytest.mark.parametrize("packed", [False, True])
def test_byte_order_mark_and_line_ends_make_no_difference(content: bytes, packed: bool, tmp_path: Path) -> None:
    path = tmp_path / ("a.jsonl.gz" if packed else "a.jsonl")
    path.write_bytes(gzip.compress(content) if packed else content)
    assert values(path) == [json.loads(GOOD)] * 3


def test_a_list_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"\xef\xbb\xbf[" + GOOD + b"]")
    assert values(path) == [json.loads(GOOD)]


@pytest.mark.parametrize("tail", [b"", gzip.compress(LINES), b"\0" * 20], ids=["one member", "two members", "padding"])
def test_gzip_may_have_several_members_and_zeros_at_the_end(tail: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(LINES) + tail)
    assert len(read(path)) == (2 if tail.startswith(b"\x1f") else 1)


def cuts_that_are_used(whole: bytes, name: str, tmp_path: Path) -> list[int]:
    """Lengths at which a cut file gives out a row, or no error."""
    used = []
    for length in range(len(whole)):
        path = tmp_path / name
        path.write_bytes(whole[:length])
        count, error = read_until_error(path)
        if count or error is None or error.exit_code not in (65, 66):
            used.append(length)
    return used


def long_enough(count: int) -> bytes:
    """Lines that do not fit in one block of deflate, so that a cut file begins with good rows."""
    return "".join(json.dumps({"a": f"{index * 7919 % 10007:x}"}) + "\n" for index in range(count)).encode()


def test_a_packed_file_cut_at_any_byte_is_refused_before_its_first_row(tmp_path: Path) -> None:
    whole = gzip.compress(long_enough(60))
    assert cuts_that_are_used(whole, "a.jsonl.gz", tmp_path) == []
    assert cuts_that_are_used(gzip.compress(b'[{"a": 1}, {"a": 2}]'), "a.json.gz", tmp_path) == []


def test_without_the_check_ahead_a_cut_file_would_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "check_compressed", lambda file: None)
    monkeypatch.setattr(inputs, "BLOCK", 64)
    assert cuts_that_are_used(gzip.compress(long_enough(60)), "a.jsonl.gz", tmp_path)


def test_a_flipped_bit_in_a_packed_file_is_refused_or_harmless(tmp_path: Path) -> None:
    whole, content = (
        gzip.compress(long_enough(40), mtime=0),
        [json.loads(text) for text in long_enough(40).splitlines()],
    )
    path = tmp_path / "a.jsonl.gz"
    harmless = 0
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << (position % 8)
        path.write_bytes(damaged)
        count, error = read_until_error(path)
        if error is None:
            assert values(path) == content
            harmless += 1
        else:
            assert count == 0
    assert harmless <= 10  # the header: time, operating system


def test_a_parquet_file_cut_at_any_byte_is_refused(tmp_path: Path) -> None:
    whole = cut_parquet(1)
    assert cuts_that_are_used(whole, "a.parquet", tmp_path) == []


def test_a_list_cut_at_any_byte_is_refused(tmp_path: Path) -> None:
    whole = json.dumps(RECORDS[:2], indent=1).encode()
    for length in range(1, len(whole)):
        path = tmp_path / "a.json"
        path.write_bytes(whole[:length])
        assert isinstance(read_until_error(path)[1], DataError)


def test_lines_cut_at_any_byte_give_whole_records_or_an_error(tmp_path: Path) -> None:
    whole = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in RECORDS[:2]).encode()
    starts = {0, whole.index(b"\n") + 1}
    for length in range(len(whole)):
        path = tmp_path / "a.jsonl"
        path.write_bytes(whole[:length])
        count, error = read_until_error(path)
        complete = whole[:length].count(b"\n") + (length + 1 in {whole.index(b"\n") + 1, len(whole)})
        assert count == complete
        assert (error is None) == (complete > 0 and (length in starts or length + 1 in {*starts, len(whole)}))


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.text(alphabet='{}[]",;:\\ \t\n\r\tabu0d8-1eN\0\u2028', max_size=60)))
def test_any_bytes_give_rows_or_one_of_our_errors(
    tmp_path_factory: pytest.TempPathFactory, content: bytes | str
) -> None:
    data = content.encode() if isinstance(content, str) else content
    directory = tmp_path_factory.getbasetemp()
    for name in ("any.jsonl", "any.json", "any.parquet", "any.csv", "any.tsv", "any.txt"):
        path = directory / name
        path.write_bytes(data)
        count, error = read_until_error(path)
        assert count or error is not None
        if error is None:
            assert all(isinstance(value, dict) for value in values(path))
            json.dumps(values(path), allow_nan=False, ensure_ascii=False).encode()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_file_gives_rows_or_one_of_our_errors(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    directory = tmp_path_factory.getbasetemp()
    name = data.draw(st.sampled_from(["b.jsonl", "b.json", "b.jsonl.gz", "b.parquet", "b.csv", "b.tsv.gz"]))
    content = bytearray(write(directory / name, RECORDS).read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (directory / name).write_bytes(content)
    read_until_error(directory / name)


def test_a_list_is_read_alike_however_it_is_cut_into_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.json", RECORDS)
    whole = [(row.place, row.value) for row in read(path)]
    for size in (1, 2, 3, 7, 64):
        monkeypatch.setattr(inputs, "BLOCK", size)
        if size > 3:  # the head of the file is looked at in the first block
            assert [(row.place, row.value) for row in read(path)] == whole
    path = write(tmp_path / "a.jsonl", RECORDS)
    for size in (4, 7, 64):
        monkeypatch.setattr(inputs, "BLOCK", size)
        assert values(path) == RECORDS


def test_a_number_or_a_word_may_be_cut_between_two_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    for value in (-12.5e-30, 1.5e22, 0.25, 1e-7, True, None, "\u00e9\n"):
        path.write_text(json.dumps([{"a": value}]))
        for size in range(4, 24):
            monkeypatch.setattr(inputs, "BLOCK", size)
            assert values(path) == [{"a": value}]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.jsonl.gz", "a.parquet", "a.csv", "a.tsv.gz"])
def test_memory_does_not_grow_with_the_file(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, [{"a": f"{index:05}" * 2000} for index in range(2000)])  # 20 MB
    rows_of_file = rows(str(path))
    next(rows_of_file)
    tracemalloc.start()
    assert sum(1 for _ in rows_of_file) == 1999
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12 * 2**20


def test_a_parquet_file_with_one_row_group_is_read_page_by_page(tmp_path: Path) -> None:
    path, random = tmp_path / "a.parquet", Random(0)
    table = pyarrow.table({"a": [random.randbytes(5000).hex() for _ in range(3000)]})  # 30 MB
    pyarrow.parquet.write_table(table, path, compression="none", use_dictionary=False)
    del table
    before = pyarrow.total_allocated_bytes()
    held = [pyarrow.total_allocated_bytes() - before for _ in rows(str(path))]
    assert max(held) < 20 * 2**20  # two pages of 1,024 values


def test_page_checksums_are_compared_where_there_are_any(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pyarrow.table({"a": [f"text {number}" for number in range(50)]})
    pyarrow.parquet.write_table(table, path, compression="none", use_dictionary=False, write_page_checksum=True)
    assert len(read(path)) == 50
    content = path.read_bytes()
    path.write_bytes(content.replace(b"text 25", b"text 52"))
    with pytest.raises(DataError, match="the parquet file is broken"):
        read(path)


def change_size(path: Path) -> None:
    with path.open("ab") as file:
        file.write(LINES)


def change_time(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def replace(path: Path) -> None:
    other = path.with_name("other.jsonl")
    other.write_bytes(path.read_bytes())
    other.replace(path)


@pytest.mark.parametrize("change", [change_size, change_time, replace, Path.unlink])
def test_a_file_that_changes_while_it_is_read_is_refused(change: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINES * 3)
    reading = rows(str(path))
    next(reading)
    change(path)
    with pytest.raises((DataError, MissingInputError), match=r"changed while it was read|does not exist"):
        list(reading)


def test_without_the_comparison_a_change_would_go_unseen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "check_unchanged", lambda file: None)
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINES * 3)
    reading = rows(str(path))
    next(reading)
    change_time(path)
    assert len(list(reading)) == 2


PLANTED: dict[str, tuple[str, Any]] = {
    "line with NaN": ("DECODER", json.JSONDecoder()),
    "line with a key twice": ("DECODER", json.JSONDecoder()),
    "line with a key in two cases": ("DECODER", json.JSONDecoder()),
    "line with a number that overflows": ("DECODER", json.JSONDecoder()),
    "line with a raw tab": ("DECODER", json.JSONDecoder(strict=False)),
    "line with half a character": ("check_texts", lambda value, **_: None),
    "line with an escaped NUL": ("check_texts", lambda value, **_: None),
    "line with 65 levels": ("DEPTH_LIMIT", 1000),
}


@pytest.mark.parametrize("name", PLANTED)
def test_without_its_guard_the_bad_line_would_be_used(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strict_json, *PLANTED[name])
    assert read_until_error(BAD_FILES[name].write(tmp_path)) == (2, None)


def test_without_its_limit_a_long_record_would_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_files, "RECORD_LIMIT", 2**30)
    assert read_until_error(BAD_FILES["line with a record of 17 MiB"].write(tmp_path)) == (2, None)


def test_a_directory_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_bytes(b'{"n": 2}\n')
    (tmp_path / "a.json").write_bytes(b'[{"n": 1}]')
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(b'{"n": 3}'))
    (tmp_path / "README.md").write_text("not data")
    (tmp_path / ".hidden.jsonl").write_bytes(b"{")
    assert [row.value["n"] for row in read(tmp_path)] == [1, 2, 3]


def test_shares_rise_to_one(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(LINES * 50)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(LINES * 50))
    shares = [row.share for row in read(tmp_path)]
    assert shares == sorted(shares)
    assert 0 < shares[0] < 0.1
    assert 0.99 < shares[-1] <= 1


def test_a_split_of_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINES)
    with pytest.raises(RecipeError, match=r"a split is given, but .* has no splits; set split to null"):
        list(rows(str(path), "train"))


def test_the_digest_follows_the_content_and_not_the_name(tmp_path: Path) -> None:
    digests = {}
    for name, content in {"a": LINES, "b": LINES, "c": LINES * 2}.items():
        (tmp_path / f"{name}.jsonl").write_bytes(content)
        digests[name] = sources.open_source(str(tmp_path / f"{name}.jsonl")).digest
    assert digests["a"] == digests["b"] != digests["c"]


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("dolly/dolly-6000.jsonl", 6000),
        ("alpaca/alpaca-2000.json", 2000),
        ("oasst/en_100_tree.jsonl.gz", 100),
        ("oasst/oasst1_en_validation-90.trees.jsonl", 90),
        ("preference/ultrafeedback_binarized-400.jsonl", 400),
        ("preference/dpo_en_sharegpt-300.json", 300),
        ("zeroshot/piqa.validation.jsonl", 1838),
    ],
)
def test_real_files_are_read_to_the_last_record(name: str, count: int, real_data: Callable[[str], Path]) -> None:
    assert len(read(real_data(name))) == count
