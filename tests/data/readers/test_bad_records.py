"""Every reader on records that are wrong in every field: the reason, the place, and the same in every form."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.bad_preferences import GROUPS
from tests.data.bad_records import BAD_RECORDS, GOOD_RECORDS, SETTINGS, SHAPES, BadRecord
from tests.data.shapes import changed
from tests.data.small_runs import left, run
from tunesmith.data.dataset.faults import LONGEST, one_line
from tunesmith.data.dataset.prepare import prepare
from tunesmith.data.dataset.rendering import RenderSettings, RowChunk, Work, load_renderer, render_rows
from tunesmith.data.readers import reader as reading
from tunesmith.data.readers.pipeline import Pipeline
from tunesmith.data.readers.registry import READERS
from tunesmith.data.readers.source_config import SourceConfig
from tunesmith.data.sources.source import open_source, read_rows
from tunesmith.errors import DataError, MissingInputError
from tunesmith.text.tokens.render import Renderer

FORMS = ("a.jsonl", "a.json", "a.jsonl.gz", "a.json.gz", "a.parquet")
Verdict = tuple[str, str, str]  # place within the file, what became of the row, why


@lru_cache
def loaded(settings: RenderSettings) -> Renderer:
    return load_renderer(settings)


def write(path: Path, records: list[Mapping[str, Any]]) -> bool:
    """The records in the form that the name asks for; False if that form cannot hold them."""
    if path.suffix == ".parquet":
        try:
            names = dict.fromkeys(name for record in records for name in record)
            content = {name: [record.get(name) for record in records] for name in names}
            pyarrow.parquet.write_table(pyarrow.table(content), path)
        except (pyarrow.ArrowException, TypeError):  # several types in one list, objects without fields
            return False
        return bool(names)
    lines = [json.dumps(record, ensure_ascii=len(records) % 2 == 0) for record in records]
    text = "\n".join(lines) if ".jsonl" in path.name else "[" + ",\n".join(lines) + "]"
    path.write_bytes(gzip.compress(text.encode(), 1) if path.suffix == ".gz" else text.encode())
    return True


def verdicts(path: Path, reader: str, tokenizer: str) -> list[Verdict]:
    """What becomes of every row of a file on its way to a token tree, as ``prepare`` goes it."""
    shape = SETTINGS[reader]
    spec = SourceConfig("data", str(path), reader, fields=shape.fields, options=shape.options)
    settings = RenderSettings(tokenizer, shape.format, 5000, targets=shape.targets)
    work = Work(settings, "", (spec,))
    found = []
    for entry in Pipeline(spec).group(read_rows(open_source(spec.path, spec.split))):
        if isinstance(entry, DataError):
            found.append((str(entry.where).removeprefix(str(path)), "fault", entry.what))
            continue
        rendered = render_rows(work, loaded(settings), RowChunk(0, (entry,)))
        place, tally = entry.place.removeprefix(str(path)), rendered.counts
        if rendered.faults:
            place = str(rendered.faults[0].where).removeprefix(str(path))
            found.append((place, "fault", rendered.faults[0].what))
        else:
            found.append((place, "rejected", next(iter(tally.rejected))) if tally.rejected else (place, "used", ""))
    return found


def test_every_reader_has_a_shape() -> None:
    assert set(READERS) == set(SETTINGS), "give the new reader a good row; see bad_records.py"


@pytest.mark.parametrize("bad", BAD_RECORDS.values(), ids=BAD_RECORDS.keys())
def test_a_bad_record_is_refused_with_its_line_and_reason(bad: BadRecord, tokenizer: str, tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [SHAPES[bad.reader].row, bad.row, SHAPES[bad.reader].row])
    first, (place, verdict, what), last = verdicts(tmp_path / "a.jsonl", bad.reader, tokenizer)
    assert (first, last) == ((":1", "used", ""), (":3", "used", ""))
    assert (place, verdict) == (":2", "fault")
    assert all(word in what for word in bad.says), what
    assert "\n" not in what
    assert len(what) < 300


def place_in(name: str, number: int) -> str:
    """The place of a record in a file of that name. number: of the record, from 0."""
    if name == "a.parquet":
        return f":row {number + 1}"
    return f":{number + 1}" + ("" if ".jsonl" in name else f"[{number}]")


@pytest.mark.parametrize("bad", BAD_RECORDS.values(), ids=BAD_RECORDS.keys())
def test_a_bad_record_is_refused_alike_in_every_form(bad: BadRecord, tokenizer: str, tmp_path: Path) -> None:
    found = {}
    for name in FORMS:
        if write(tmp_path / name, [bad.row]):
            ((place, verdict, what),) = verdicts(tmp_path / name, bad.reader, tokenizer)
            assert place == place_in(name, 0)
            found[name] = (verdict, what)
    assert len(found) >= 4
    assert len(set(found.values())) == 1, found


@pytest.mark.parametrize(("reader", "row"), GOOD_RECORDS.values(), ids=GOOD_RECORDS.keys())
def test_a_good_neighbour_is_used(reader: str, row: Mapping[str, Any], tokenizer: str, tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [row])
    assert verdicts(tmp_path / "a.jsonl", reader, tokenizer) == [(":1", "used", "")]


BAD_GROUPS = [(reader, name) for reader, shape in GROUPS.items() for name in shape.special]


@pytest.mark.parametrize(("reader", "name"), BAD_GROUPS)
def test_a_bad_row_of_a_group_is_refused_with_its_line_in_every_form(
    reader: str, name: str, tokenizer: str, tmp_path: Path
) -> None:
    rows, number, says = GROUPS[reader].special[name]
    for form in FORMS:
        if write(tmp_path / form, list(rows)):
            found = [verdict for verdict in verdicts(tmp_path / form, reader, tokenizer) if verdict[1] != "used"]
            ((place, verdict, what),) = found
            assert (place, verdict) == (place_in(form, number), "fault")
            assert says.replace("missing", "null" if form == "a.parquet" else "missing") in what  # a table has no gaps


@pytest.mark.parametrize(
    ("reader", "rows"),
    [(reader, rows) for reader, shape in GROUPS.items() for rows in (shape.rows, *shape.good.values())],
)
def test_a_good_group_is_used(reader: str, rows: list[Mapping[str, Any]], tokenizer: str, tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", list(rows))
    assert {verdict[1] for verdict in verdicts(tmp_path / "a.jsonl", reader, tokenizer)} == {"used"}


@pytest.mark.parametrize("name", list(BAD_RECORDS)[::20])
def test_prepare_ends_with_the_exit_code_for_bad_data(name: str, tokenizer: str, tmp_path: Path) -> None:
    bad, shape = BAD_RECORDS[name], SHAPES[BAD_RECORDS[name].reader]
    write(tmp_path / "a.jsonl", [shape.row, bad.row])
    spec = SourceConfig("data", str(tmp_path / "a.jsonl"), bad.reader, fields=shape.fields, options=shape.options)
    render = RenderSettings(tokenizer, shape.format, 5000, targets=shape.targets)
    with pytest.raises(DataError) as caught:
        prepare([spec], render, validation=0, seed=0, cache=tmp_path / "cache", workers=0)
    assert caught.value.exit_code == 65
    assert str(caught.value.where) == f"{tmp_path / 'a.jsonl'}:2"
    assert left(tmp_path / "cache") == []


def test_without_its_check_a_number_would_be_used_as_text(
    tokenizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "as_text", lambda value, what: str(value))
    write(tmp_path / "a.jsonl", [BAD_RECORDS["dolly: response a number"].row])
    assert verdicts(tmp_path / "a.jsonl", "dolly", tokenizer) == [(":1", "used", "")]


values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=8),
    st.sampled_from(["", " ", "user", "assistant", "m1", "en", "ready_for_export"]),
    st.lists(st.text("ab", max_size=2), max_size=2),
)


@settings(max_examples=250, deadline=None)
@given(data=st.data())
def test_records_have_the_same_verdicts_in_every_form(
    data: st.DataObject, tokenizer: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    reader = data.draw(st.sampled_from(sorted(SHAPES)))
    row = dict(SHAPES[reader].row)
    for _ in range(data.draw(st.integers(0, 2))):
        path: tuple[str | int, ...] = ()
        inside: Any = row
        while isinstance(inside, dict | list) and inside and (not path or data.draw(st.booleans())):
            step = data.draw(st.sampled_from(sorted(inside) if isinstance(inside, dict) else range(len(inside))))
            path, inside = (*path, step), inside[step]
        row = changed(row, path, data.draw(values))
    directory = tmp_path_factory.mktemp("forms")
    found = {
        name: [verdict[1:] for verdict in verdicts(directory / name, reader, tokenizer)]
        for name in FORMS
        if write(directory / name, [row])
    }
    assert len({str(verdict) for verdict in found.values()}) == 1, found


def test_all_records_of_a_bad_kind_leave_nothing_behind(tokenizer: str, tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [{"tree_state": "growing\x1b[31m", "prompt": {}}])
    spec = SourceConfig("data", str(tmp_path / "a.jsonl"), "oasst")
    with pytest.raises(MissingInputError) as caught:
        prepare(
            [spec], RenderSettings(tokenizer, "chatml", 99), validation=0, seed=0, cache=tmp_path / "cache", workers=0
        )
    assert "tree_state growing\\x1b[31m: 1" in str(caught.value)  # data write no colours to the terminal
    assert left(tmp_path / "cache") == []


def test_messages_hold_no_line_breaks_no_escapes_and_no_novels(tokenizer: str, tmp_path: Path) -> None:
    write(
        tmp_path / "a.jsonl", [{"\x1b[31m\n\u202e": 1, "x" * 9999: 2, "id": 3}, {**SHAPES["dolly"].row, "response": ""}]
    )
    with pytest.raises(DataError) as caught:
        run(tmp_path / "a.jsonl", tokenizer, tmp_path / "cache")
    heading, first, second = str(caught.value).split("\n  ")
    place, what = f"{tmp_path / 'a.jsonl'}:1", "the fields 'instruction' and 'response' are missing"
    assert first.startswith(f"{place}: {what}; the columns are \\x1b[31m\\n\\u202e, xxx")
    assert len(first) < 2 * LONGEST + 200
    assert (heading + first + second).isprintable()


def test_one_line_keeps_what_can_be_read() -> None:
    assert one_line("ein Fluß 河 🤖") == "ein Fluß 河 🤖"


def test_there_are_many_bad_records() -> None:
    assert len(BAD_RECORDS) + len(BAD_GROUPS) > 700
