"""A list of records under a key of an object: found wherever it is, and never guessed where there are several."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.data.sources import files as inputs
from tunesmith.data.sources.source import open_source, read_rows, rows
from tunesmith.errors import DataError, RecipeError

RECORDS = [{"instruction": f"a {number}", "tags": [{"x": number}]} for number in range(5)]
OTHER: list[Any] = ["text", 12, -0.5, None, True, [], {}, ["a", "b"], {"data": [{"a": 1}]}, [[{"a": 1}]]]


def written(path: Path, value: Any, **style: Any) -> Path:
    path.write_text(json.dumps(value, **style), encoding="utf-8")
    return path


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(OTHER), max_size=4), st.integers(0, 4), st.sampled_from((None, 1)))
def test_the_only_list_of_objects_is_read_wherever_it_is(
    tmp_path_factory: pytest.TempPathFactory, others: list[Any], place: int, indent: int | None
) -> None:
    items = [(f"key {number}", value) for number, value in enumerate(others)]
    items.insert(place, ("data", RECORDS))
    path = written(tmp_path_factory.getbasetemp() / "under.json", dict(items), indent=indent)
    assert [row.value for row in rows(str(path))] == RECORDS


def test_places_are_those_of_the_list(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"version": "1",\n"data": [\n{"a": 1},\n\n{"a": 2}, {"a": 3}]}\n')
    assert [row.place for row in rows(str(path))] == [f"{path}:{place}" for place in ("3[0]", "5[1]", "5[2]")]


def test_it_is_read_alike_however_it_is_cut_into_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "a.json", {"version": 12345, "ok": True, "data": RECORDS, "end": -1.5e3}, indent=1)
    whole = [(row.place, row.value) for row in rows(str(path))]
    assert len(whole) == 5
    for size in range(4, 60):
        monkeypatch.setattr(inputs, "BLOCK", size)
        assert [(row.place, row.value) for row in rows(str(path))] == whole


def test_several_lists_are_named_and_one_can_be_chosen(tmp_path: Path) -> None:
    value = {"train": RECORDS[:3], "about": "b", "dev set": RECORDS[3:]}
    path = written(tmp_path / "a.json", value)
    with pytest.raises(RecipeError) as error:
        [*read_rows(open_source(str(path), key="data.sources.1"))]
    assert str(error.value) == (
        f"{path}: the file has several lists of records: train, dev set; append data.sources.1.split=train"
    )
    for split, records in (("train", RECORDS[:3]), ("dev set", RECORDS[3:])):
        assert [row.value for row in rows(str(path), split)] == records
    with pytest.raises(RecipeError, match="has no list of records 'about'; set split to train"):
        [*rows(str(path), "about")]
    assert open_source(str(path), "train").digest != open_source(str(path), "dev set").digest


def test_several_lists_of_a_long_file_are_found_at_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "BLOCK", 16)
    path = written(tmp_path / "a.json", {"train": RECORDS, "test": RECORDS})
    with pytest.raises(RecipeError, match="several lists of records: train, test"):
        [*rows(str(path))]


def test_a_list_has_no_split(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="has no list 'train'; set split to null"):
        [*rows(str(written(tmp_path / "a.json", RECORDS)), "train")]


def test_records_with_a_list_of_messages_are_no_file_with_a_key(tmp_path: Path) -> None:
    chat = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    path = written(tmp_path / "a.json", chat)
    with pytest.raises(DataError, match="is one record: its list 'messages' holds the messages of a conversation"):
        [*rows(str(path))]
    path.write_text("".join(json.dumps(chat) + "\n" for _ in range(3)))
    with pytest.raises(DataError, match=r"several objects, not one list; if .* let its name end in \.jsonl"):
        [*rows(str(path))]


@pytest.mark.parametrize(
    ("speaker", "text", "name"), [("speaker", "text", "User"), ("author", "message", "bot"), ("role", "text", "gpt")]
)
def test_one_conversation_is_one_record_in_every_spelling(speaker: str, text: str, name: str, tmp_path: Path) -> None:
    path = written(
        tmp_path / "a.json", {"id": 7, "dialog": [{speaker: name, text: "Hello"}, {speaker: "x", text: "y"}]}
    )
    with pytest.raises(DataError, match="is one record: its list 'dialog' holds the messages of a conversation"):
        [*rows(str(path))]


def test_documents_with_an_author_are_records(tmp_path: Path) -> None:
    documents = [{"author": "Eça de Queirós", "text": "A text."}, {"author": None, "text": "Another."}]
    assert [row.value for row in rows(str(written(tmp_path / "a.json", {"data": documents})))] == documents


@pytest.mark.parametrize("split", [None, "data"])
@pytest.mark.parametrize("block", [4, 2**20])
def test_an_empty_list_is_named(split: str | None, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "BLOCK", block)
    path = written(tmp_path / "a.json", {"version": 1, "data": []})
    with pytest.raises(DataError) as error:
        [*rows(str(path), split)]
    assert str(error.value) == f"{path}:1: the file has no records: its list 'data' is empty; check what was exported"


def test_memory_does_not_grow_with_the_list(tmp_path: Path) -> None:
    path = written(tmp_path / "a.json", {"version": 1, "data": [{"a": f"{n:05}" * 2000} for n in range(2000)]})  # 20 MB
    reading = rows(str(path))
    next(reading)
    tracemalloc.start()
    assert sum(1 for _ in reading) == 1999
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12 * 2**20
