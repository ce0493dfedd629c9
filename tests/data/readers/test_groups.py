"""Rows of one record: grouped in order of first appearance, faults at their own rows, counted as one record."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.readers.test_oasst import answer, ask, row
from tests.data.readers.test_oasst_forms import flat
from tests.data.small_runs import arrays, run
from tunesmith.data.readers.groups import group_rows
from tunesmith.data.sources.rows import SourceRow
from tunesmith.errors import DataError


def rows(*keys: Any) -> list[SourceRow[Any]]:
    values = [{"key": key, "n": number} for number, key in enumerate(keys)]
    return [SourceRow(f"f:{number}", value, 0.0) for number, value in enumerate(values)]


@given(st.lists(st.sampled_from("abcd")))
def test_every_row_is_in_the_group_of_its_key_in_order(keys: list[str]) -> None:
    groups = [item for item in group_rows(rows(*keys), "key") if isinstance(item, SourceRow)]
    assert [item.value.rows[0]["key"] for item in groups] == list(dict.fromkeys(keys))
    assert [item.place for item in groups] == [item.value.places[0] for item in groups]
    for item in groups:
        numbers = [value["n"] for value in item.value.rows]
        assert numbers == sorted(numbers)
        assert item.value.places == tuple(f"f:{number}" for number in numbers)
        assert {value["key"] for value in item.value.rows} == {item.value.rows[0]["key"]}
    assert Counter(value["n"] for item in groups for value in item.value.rows) == Counter(range(len(keys)))
    if groups:
        assert groups[-1].share == 1.0


def test_faults_are_handed_on_and_a_row_without_key_is_one() -> None:
    broken = DataError("broken", where="f:9")
    found = list(group_rows([broken, *rows("a", None, 3, "", "a"), SourceRow("f:7", {}, 0.0)], "key"))
    assert found[0] is broken
    faults = [(item.where, item.what) for item in found[1:] if isinstance(item, DataError)]
    assert faults == [
        ("f:1", "field 'key' is null, not text"),
        ("f:2", "field 'key' is a number, not text"),
        ("f:3", "field 'key' is empty"),
        ("f:7", "field 'key' is missing"),
    ]
    (group,) = (item for item in found if isinstance(item, SourceRow))
    assert [value["n"] for value in group.value.rows] == [0, 4]


RATINGS = ("helpfulness", "correctness", "coherence", "complexity")
TREES = [
    row(ask("q", answer("a", ask("b", answer("c"))), answer("d"))),
    row(ask("r", answer("s", deleted=True))),
    row(ask("t", answer("u"))),
]


def written(path: Path, values: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return path


def test_scattered_rows_give_the_store_of_the_nested_file(tokenizer: str, tmp_path: Path) -> None:
    """Also counted alike: a tree is one record, however many rows it has."""
    nested = written(tmp_path / "nested.jsonl", TREES)
    messages = [flat(tree) for tree in TREES]
    depth = max(map(len, messages))
    scattered = [found[index] for index in range(depth) for found in messages if index < len(found)]
    chat = {"format": "chatml", "max_length": 500, "cache": tmp_path / "cache"}
    one = run(nested, tokenizer, reader="oasst", **chat)
    for order in (scattered, [value for found in messages for value in found]):
        other = run(written(tmp_path / "flat.jsonl", order), tokenizer, reader="oasst-messages", **chat)
        assert arrays(other) == arrays(one)
        assert other.report == one.report
    tally = one.report.sources["data"]
    assert (tally.records, tally.used, dict(tally.rejected)) == (3, 2, {"root not answered": 1})


def test_a_field_can_name_the_column_that_rows_share(tokenizer: str, tmp_path: Path) -> None:
    values = [
        {("tree" if key == "message_tree_id" else key): item for key, item in value.items()} for value in flat(TREES[0])
    ]
    path = written(tmp_path / "flat.jsonl", values)
    settings = {"reader": "oasst-messages", "format": "chatml", "max_length": 500}
    prepared = run(path, tokenizer, tmp_path / "cache", fields={"message_tree_id": "tree"}, **settings)
    assert len(prepared.train) == 1


def test_a_fault_inside_a_group_is_told_at_its_row(tokenizer: str, tmp_path: Path) -> None:
    values = [*flat(TREES[0]), *flat(TREES[2])]
    values[2]["text"] = ""
    path = written(tmp_path / "flat.jsonl", values)
    with pytest.raises(DataError) as caught:
        run(path, tokenizer, tmp_path / "cache", reader="oasst-messages", format="chatml", max_length=500)
    assert caught.value.where == f"{path}:3"
    assert caught.value.what == "the text of message 'b' is empty ('q' > 'a' > 'b')"


@pytest.mark.usefixtures("small_chunks")
def test_groups_are_rendered_in_processes_like_everything_else(tokenizer: str, tmp_path: Path) -> None:
    values = [
        {"prompt": f"What is {n % 20} + 1?", "response": f"{n}", **dict.fromkeys(RATINGS, n // 20)} for n in range(60)
    ]
    path = written(tmp_path / "a.jsonl", values)
    chat: dict[str, Any] = {"reader": "helpsteer", "format": "chatml", "max_length": 500}
    alone, together = (run(path, tokenizer, tmp_path / str(n), workers=n, **chat) for n in (0, 2))
    assert arrays(alone) == arrays(together)
    assert alone.report == together.report
    assert (alone.report.sources["data"].records, alone.report.train.threads) == (20, 60)
