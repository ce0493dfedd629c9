"""Directories: which files count, which are named as left out, and datasets that were saved with ``save_to_disk``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from struct import pack
from typing import Any

import datasets
import pyarrow
import pyarrow.ipc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.small_runs import RECORDS, run
from tunesmith.data.sources.directories import ABOUT_DATA
from tunesmith.data.sources.source import OpenedSource, find_source, open_source, read_rows, rows
from tunesmith.errors import DataError, MissingInputError, RecipeError, TunesmithError

CHATS: list[dict[str, Any]] = [
    {"id": number, "messages": [{"role": "user", "content": f"ü {number}"}, {"role": "assistant", "content": "b"}]}
    for number in range(700)
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset in three files."""
    path = tmp_path_factory.mktemp("saved") / "one"
    datasets.disable_progress_bars()
    datasets.Dataset.from_list(CHATS).save_to_disk(path, num_shards=3)
    return path


@pytest.fixture(scope="module")
def saved_splits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "several"
    parts = {
        "train": datasets.Dataset.from_list(CHATS[:3], split="train"),
        "test": datasets.Dataset.from_list(CHATS[3:5]),
    }
    datasets.DatasetDict(parts).save_to_disk(path)
    return path


def names(source: OpenedSource) -> list[str]:
    return [file.path.name for file in source.files]


def test_a_saved_dataset_has_the_rows_that_the_package_gives(saved: Path) -> None:
    read = [*rows(str(saved))]
    assert [row.value for row in read] == list(datasets.load_from_disk(saved)) == CHATS
    assert read[0].place == f"{saved}/data-00000-of-00003.arrow:row 1"
    assert read[-1].place == f"{saved}/data-00002-of-00003.arrow:row 233"
    assert 0.9 < read[-1].share <= 1
    assert find_source(str(saved)).left_out == ()


def test_a_selection_is_saved_as_it_was_selected(saved: Path, tmp_path: Path) -> None:
    selected = datasets.load_from_disk(saved).shuffle(seed=1).select(range(20))
    selected.save_to_disk(tmp_path / "part")
    assert [row.value for row in rows(str(tmp_path / "part"))] == list(selected)


def test_the_splits_of_a_saved_dataset_are_named_and_one_can_be_chosen(saved_splits: Path) -> None:
    assert [row.value["id"] for row in rows(str(saved_splits), "test")] == [3, 4]
    with pytest.raises(RecipeError) as error:
        open_source(str(saved_splits), key="data.sources.0")
    assert str(error.value) == (
        f"{saved_splits}: the saved dataset has the splits train, test; append data.sources.0.split=train"
    )
    with pytest.raises(RecipeError, match="the saved dataset has no split 'dev'; add --split train"):
        open_source(str(saved_splits), "dev", key="--")
    assert open_source(str(saved_splits), "test").digest != open_source(str(saved_splits), "train").digest


def test_the_split_of_a_saved_dataset_may_be_named_or_not(saved: Path, saved_splits: Path) -> None:
    assert len([*rows(str(saved_splits / "train"), "train")]) == len([*rows(str(saved_splits / "train"))]) == 3
    with pytest.raises(RecipeError, match="has no split 'train'; set split to null"):
        open_source(str(saved), "train")


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({"_data_files": [{"filename": "../outside.arrow"}]}, "no list of names"),
        ({"_data_files": [{"filename": "/etc/passwd"}]}, "no list of names"),
        ({"_data_files": [{"filename": ".."}]}, "no list of names"),
        ({"_data_files": [{}]}, "no list of names"),
        ({"_data_files": [], "_split": None}, "the saved dataset has no records"),
        ({}, "no list of names"),
        ({"_data_files": [{"filename": "state.json"}]}, "names 'state.json'"),
        ({"_data_files": [{"filename": "gone.arrow"}]}, "does not exist"),
        ({"_indices_data_files": [{"filename": "a.arrow"}]}, "has indices of an old version"),
    ],
)
def test_a_state_that_the_package_does_not_write_is_refused(
    state: dict[str, Any], says: str, saved: Path, tmp_path: Path
) -> None:
    path = tmp_path / "changed"
    shutil.copytree(saved, path)
    (path / "state.json").write_text(json.dumps(state))
    with pytest.raises((DataError, MissingInputError), match=says) as error:
        open_source(str(path))
    assert str(error.value.where).startswith(str(path))


def test_a_stream_cut_at_any_batch_or_byte_is_refused(saved: Path, tmp_path: Path) -> None:
    whole = (saved / "data-00000-of-00003.arrow").read_bytes()
    path = tmp_path / "a.arrow"
    path.write_bytes(whole)
    assert len([*rows(str(path))]) == 234
    for length in (*range(8, len(whole), 997), len(whole) - 8, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match="breaks off before its end"):
            [*rows(str(path))]


def test_a_batch_without_the_offsets_of_a_list_is_refused(tmp_path: Path) -> None:
    """Arrow reads outside of the memory to count the bytes of a batch that was not validated."""
    path = tmp_path / "a.arrow"
    table = pyarrow.table({"turns": [["a"]]})
    with path.open("wb") as file, pyarrow.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    buffers = pack("<6q", 0, 0, 0, 8, 8, 0)  # begin and length: no validity, two offsets, no validity of the strings
    content = path.read_bytes()
    assert content.count(buffers) == 1
    path.write_bytes(content.replace(buffers, pack("<6q", 0, 0, 0, 0, 8, 0)))
    with pytest.raises(DataError, match=r"the Arrow file is broken: In column 0: .*Buffer #1 too small"):
        [*rows(str(path))]


# Arrow itself can crash on damaged metadata, so the examples are always the same ones.
@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.data())
def test_a_damaged_arrow_file_gives_rows_or_one_of_our_errors(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.arrow"
    table = pyarrow.Table.from_pylist(CHATS[:5])
    form = data.draw(st.sampled_from((pyarrow.ipc.new_stream, pyarrow.ipc.new_file)))
    with path.open("wb") as file, form(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 9))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        assert all(isinstance(row.value, dict) for row in rows(str(path)))
    except TunesmithError as error:
        assert error.exit_code in (65, 66)  # noqa: PT017
        assert "\n" not in str(error)  # noqa: PT017


def test_files_that_are_not_read_are_named(tmp_path: Path) -> None:
    for name in ("b.csv", "a.jsonl", "README.md", "LICENSE.txt", "notes.txt", "old.xls", "requirements.txt"):
        (tmp_path / name).write_text('{"a": "b"}\n' if name == "a.jsonl" else "a,b\n1,2\n")
    (tmp_path / "raw").mkdir()
    (tmp_path / ".git").mkdir()
    source = find_source(str(tmp_path))
    assert names(source) == ["a.jsonl", "b.csv"]
    assert source.left_out == ("LICENSE.txt", "README.md", "notes.txt", "old.xls", "raw/", "requirements.txt")


def test_lock_files_of_office_programs_are_neither_read_nor_named(tmp_path: Path) -> None:
    for name in ("~$data.csv", ".~lock.data.csv#", "data.csv"):
        (tmp_path / name).write_text("a,b\n1,2\n")
    (tmp_path / "~$book.xlsx").write_bytes(b"\x05owner")
    source = find_source(str(tmp_path))
    assert (names(source), source.left_out) == (["data.csv"], ())


def test_an_empty_dataset_that_was_saved_has_no_records(saved: Path, tmp_path: Path) -> None:
    datasets.load_from_disk(saved).select([]).save_to_disk(tmp_path / "empty")
    with pytest.raises(MissingInputError) as error:
        find_source(str(tmp_path / "empty"))
    assert str(error.value) == f"{tmp_path / 'empty'}: the saved dataset has no records; check what was saved"


def test_texts_are_data_where_nothing_else_is(tmp_path: Path) -> None:
    for name in ("one.txt", "two.txt", "readme.txt"):
        (tmp_path / name).write_text("a text\n")
    assert names(find_source(str(tmp_path))) == ["one.txt", "two.txt"]


@pytest.mark.parametrize("name", ["README", "readme.jsonl", "License.txt", "CHANGELOG.md", "requirements.txt"])
def test_names_that_say_something_about_the_data(name: str) -> None:
    assert ABOUT_DATA.match(name)
    assert not ABOUT_DATA.match(f"my{name}")
    assert not ABOUT_DATA.match("noticeboard.jsonl")


def test_a_directory_without_data_says_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "README.md").write_text("about")
    with pytest.raises(MissingInputError) as error:
        find_source(str(tmp_path))
    assert str(error.value).startswith(f"{tmp_path}: the directory has no data files, only README.md, data/; they end")


def test_the_report_of_prepared_data_names_what_was_left_out(tmp_path: Path, tokenizer: str) -> None:
    directory = tmp_path / "data"
    directory.mkdir()
    (directory / "a.jsonl").write_text("".join(json.dumps(record) + "\n" for record in RECORDS[:3]))
    for name in ("README.md", "\x1b[31mred.doc"):
        (directory / name).write_text("about")
    for _ in range(2):  # the second time the data are in the cache
        report = run(directory, tokenizer, tmp_path / "cache").report
        assert report.lines()[0] == "data: files not read: \\x1b[31mred.doc, README.md"
        assert report.as_json()["left_out"] == {"data": ["\x1b[31mred.doc", "README.md"]}
    alone = run(directory / "a.jsonl", tokenizer, tmp_path / "cache").report
    assert "left_out" not in alone.as_json()


def test_rows_of_a_saved_dataset_are_checked(tmp_path: Path) -> None:
    datasets.Dataset.from_list([{"a": "b"}, {"a": "c\0"}]).save_to_disk(tmp_path / "saved")
    first, second = read_rows(open_source(str(tmp_path / "saved")))
    assert not isinstance(first, DataError)
    assert isinstance(second, DataError)
    assert str(second.where).endswith("arrow:row 2")
