"""Bad rows: they stop everything, or are put aside with their place and reason, up to a limit, and never go unseen."""

from __future__ import annotations

import datetime
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from tests.data.small_runs import RECORDS, arrays, left, write
from tunesmith.data.dataset.faults import BadRows, RowFault
from tunesmith.data.dataset.prepare import Prepared, prepare
from tunesmith.data.dataset.rendering import RenderSettings
from tunesmith.data.readers.source_config import SourceConfig
from tunesmith.errors import DataError, MissingInputError

BAD: dict[int, str] = {
    3: "{",
    10: '{"instruction": "a"}',
    11: '{"instruction": "a", "response": 1, "note": "\u00fc"}',
    40: '{"instruction": "' + "long " * 300 + '", "response": "b"}',
}
REASONS = [
    "the record breaks off in the middle",
    "field 'response' is missing",
    "field 'response' is a number, not text",
    "a thread of ",
]


def spoiled(path: Path) -> Path:
    lines = [json.dumps(record) for record in RECORDS]
    for number, line in BAD.items():
        lines[number] = line
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def run(path: Path, tokenizer: str, cache: Path, most: int | float | None, workers: int = 0) -> Prepared:
    bad_rows = BadRows() if most is None else BadRows(True, most)
    settings = RenderSettings(tokenizer, "dolly", 200, "error")
    spec = SourceConfig("data", str(path), "dolly")
    return prepare([spec], settings, validation=0, seed=0, cache=cache, workers=workers, bad_rows=bad_rows)


@pytest.mark.parametrize("most", [4, 10, 0.07])
def test_bad_rows_are_put_aside_with_place_and_reason(most: float, tokenizer: str, tmp_path: Path) -> None:
    path = spoiled(tmp_path / "a.jsonl")
    prepared = run(path, tokenizer, tmp_path / "cache", most)
    good = [record for number, record in enumerate(RECORDS) if number not in BAD]
    expected = run(write(tmp_path / "good.jsonl", good), tokenizer, tmp_path / "cache", None)
    assert arrays(prepared) == arrays(expected)
    assert expected.quarantine is None
    assert prepared.quarantine is not None
    entries = [json.loads(line) for line in prepared.quarantine.read_text(encoding="utf-8").splitlines()]
    assert [entry["place"] for entry in entries] == [f"{path}:{number + 1}" for number in BAD]
    assert all(entry["reason"].startswith(reason) for entry, reason in zip(entries, REASONS, strict=True))
    assert all(entry["advice"] for entry in entries)
    assert "row" not in entries[0]
    assert [entry["row"] for entry in entries[1:]] == [json.loads(line) for line in list(BAD.values())[1:]]
    tally = prepared.report.sources["data"]
    assert (tally.records, tally.used, tally.bad) == (60, 56, 4)
    assert prepared.report.lines()[0] == "data: 60 records were read: 56 are used, 4 are quarantined"


@pytest.mark.parametrize("most", [3, 0.06, 0])
def test_more_bad_rows_than_allowed_are_refused_with_their_number(most: float, tokenizer: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        run(spoiled(tmp_path / "a.jsonl"), tokenizer, tmp_path / "cache", most)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"4 of 60 records cannot be used (data.max_bad is {most:g}), and nothing was stored:"
    assert len(lines) == 5
    assert left(tmp_path / "cache") == []


def test_a_store_with_fewer_rows_than_now_allowed_is_not_taken(tokenizer: str, tmp_path: Path, made: list[str]) -> None:
    path = spoiled(tmp_path / "a.jsonl")
    first = run(path, tokenizer, tmp_path / "cache", 4)
    assert run(path, tokenizer, tmp_path / "cache", 5).report == first.report
    assert len(made) == 1
    for most in (3, None):
        with pytest.raises(DataError, match=r"4 (of 60 )?records cannot be used"):
            run(path, tokenizer, tmp_path / "cache", most)
    again = run(path, tokenizer, tmp_path / "cache", 0.1)
    assert len(made) == 3
    assert again.quarantine is not None
    assert len(again.quarantine.read_text(encoding="utf-8").splitlines()) == 4


def test_a_quarantine_that_was_removed_is_written_again(tokenizer: str, tmp_path: Path, made: list[str]) -> None:
    path = spoiled(tmp_path / "a.jsonl")
    first = run(path, tokenizer, tmp_path / "cache", 4).quarantine
    assert first is not None
    content = first.read_bytes()
    first.unlink()
    again = run(path, tokenizer, tmp_path / "cache", 4).quarantine
    assert again is not None
    assert again.read_bytes() == content
    assert len(made) == 2


def test_without_bad_rows_both_policies_share_a_store(tokenizer: str, tmp_path: Path, made: list[str]) -> None:
    path = write(tmp_path / "a.jsonl", RECORDS)
    for most in (0.001, None, 0):
        assert run(path, tokenizer, tmp_path / "cache", most).quarantine is None
    assert len(made) == 1
    assert not list((tmp_path / "cache").rglob("quarantine.jsonl"))


@pytest.mark.usefixtures("small_chunks")
def test_processes_put_the_same_aside_as_none(tokenizer: str, tmp_path: Path) -> None:
    path = spoiled(tmp_path / "a.jsonl")
    alone, together = (run(path, tokenizer, tmp_path / str(workers), 4, workers) for workers in (0, 2))
    assert alone.report == together.report
    assert arrays(alone) == arrays(together)
    assert alone.quarantine is not None
    assert together.quarantine is not None
    assert alone.quarantine.read_bytes() == together.quarantine.read_bytes()


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.json"])
def test_a_file_that_cannot_be_read_on_always_stops(name: str, tokenizer: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, RECORDS)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError) as caught:
        run(path, tokenizer, tmp_path / "cache", 0.9)
    assert caught.value.where is not None
    assert caught.value.where.startswith(str(path))
    assert left(tmp_path / "cache") == []


def test_nothing_but_bad_rows_is_nothing(tokenizer: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("{\n{\n{")
    with pytest.raises(MissingInputError, match=r"none of 3 records is left \(quarantined: 3\)"):
        run(tmp_path / "a.jsonl", tokenizer, tmp_path / "cache", 5)


def test_rows_that_json_cannot_hold_are_written_as_text(tokenizer: str, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"instruction": "a", "response": "b", "when": datetime.date(2024, 2, 29), "raw": b"\x00\xff"},
        {"instruction": "a", "response": None, "when": datetime.date(2024, 2, 29), "raw": b"\x00\xff"},
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    prepared = run(tmp_path / "a.parquet", tokenizer, tmp_path / "cache", 1)
    assert prepared.quarantine is not None
    (entry,) = [json.loads(line) for line in prepared.quarantine.read_text(encoding="utf-8").splitlines()]
    assert entry["row"]["when"] == "2024-02-29"
    assert entry["row"]["raw"] == "b'\\x00\\xff'"


def test_a_line_of_the_quarantine_is_json_whatever_the_row_holds() -> None:
    row = {1: [float("nan"), float("-inf"), 1.5, True, None], "\ud800": ("\u2028", {"a": b"x"})}
    line = RowFault("what \ud800", "a:1", None, row).line()
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    assert json.loads(line)["row"]["1"] == ["nan", "-inf", 1.5, True, None]


@pytest.mark.parametrize(
    ("bad_rows", "bad", "rows", "allowed"),
    [
        (BadRows(), 0, 10, True),
        (BadRows(), 1, 10, False),
        (BadRows(False, 5), 1, 10, False),
        (BadRows(True, 5), 5, 10, True),
        (BadRows(True, 5), 6, 10, False),
        (BadRows(True, 0.001), 1, 999, False),
        (BadRows(True, 0.001), 1, 1000, True),
        (BadRows(True, 0.29), 29, 100, True),
        (BadRows(True, 0), 1, 10, False),
    ],
)
def test_the_limit_is_a_number_or_a_share(bad_rows: BadRows, bad: int, rows: int, allowed: bool) -> None:
    assert bad_rows.allows(bad, rows) == allowed


def test_a_cut_gzip_is_not_taken_for_its_beginning(tokenizer: str, tmp_path: Path) -> None:
    """The rows before the cut are sound, and yet they are not all there were."""
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress("".join(json.dumps(record) + "\n" for record in RECORDS).encode())[:-8])
    with pytest.raises(DataError):
        run(path, tokenizer, tmp_path / "cache", 0.99)
