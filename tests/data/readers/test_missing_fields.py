"""A row that lacks fields: all of them in one message, with words that can be pasted and then work."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from tests.data.bad_records import SETTINGS, SHAPES
from tests.data.outcomes import says
from tests.data.shapes import MISSING, changed
from tunesmith.data.readers.registry import READERS, open_reader
from tunesmith.data.sources.setting_words import setting_words
from tunesmith.errors import DataError
from tunesmith.recipe.reading import read_text, to_plain
from tunesmith.recipe.writing import flow

GUESSED: dict[str, tuple[str, dict[str, Any], dict[str, str]]] = {
    "both under other names": (
        "dolly",
        {"question": "a", "answer": "b"},
        {"instruction": "question", "response": "answer"},
    ),
    "one of two": ("dolly", {"instruction": "a", "output": "b"}, {"response": "output"}),
    "names with spaces and capitals": (
        "alpaca",
        {"User Message": "a", "Model Response": "b"},
        {"instruction": "User Message", "output": "Model Response"},
    ),
    "a name that is an index": (
        "prompt-completion",
        {"input": "a", "output": "b"},
        {"prompt": "input", "completion": "output"},
    ),
    "messages": ("messages", {"conversation": [{"role": "user"}], "id": "x"}, {"messages": "conversation"}),
    "text": ("text", {"content": "a"}, {"text": "content"}),
}


def refused(reader: str, row: dict[str, Any], key: str = "data.sources.0", **fields: str) -> DataError:
    with pytest.raises(DataError) as error:
        open_reader(reader, fields, SETTINGS[reader].options, key=key)(row)
    return error.value


@pytest.mark.parametrize(("reader", "row", "fields"), GUESSED.values(), ids=GUESSED)
def test_the_words_to_append_name_the_columns(reader: str, row: dict[str, Any], fields: dict[str, str]) -> None:
    advice = refused(reader, row).advice
    assert advice is not None
    before, _, words = advice.partition("; append ")
    assert before == f"the columns are {', '.join(row)}"
    (word,) = shlex.split(words)
    key, _, value = word.partition("=")
    assert key == "data.sources.0.fields"
    assert to_plain(read_text(value, "", lines=False)) == fields


def test_with_the_words_the_row_is_read() -> None:
    reader, row, fields = GUESSED["both under other names"]
    assert says(open_reader(reader, fields, {})(row)) == [["a", "b"]]


@pytest.mark.parametrize(
    ("row", "advice"),
    [
        ({"a": "x", "b": "y"}, "append 'data.sources.0.fields={instruction: COLUMN, response: COLUMN}' with the name"),
        ({"question": "x", "b": "y"}, "append 'data.sources.0.fields={instruction: COLUMN, response: COLUMN}' with"),
        ({"question": "x", "answer": 5}, "fields={instruction: COLUMN, response: COLUMN}' with the name of the right"),
        ({"instruction": "x"}, "append 'data.sources.0.fields={response: COLUMN}' with the name of the right column"),
        (
            {},
            "the columns are none; these rows may be for another reader; append data.sources.0.reader=auto, or append",
        ),
    ],
)
def test_nothing_is_guessed_where_it_is_not_clear(row: dict[str, Any], advice: str) -> None:
    assert advice in str(refused("dolly", row))


def test_a_command_with_options_has_no_recipe_whose_reader_could_be_wrong() -> None:
    error = refused("dolly", {"messages": []}, key="--")
    assert str(error).endswith(
        "the columns are messages; add --field instruction=COLUMN --field response=COLUMN with the name of the right "
        "column"
    )


def test_a_column_that_is_read_under_its_name_is_no_candidate() -> None:
    error = refused("alpaca", {"instruction": "a", "input": "b", "x": "c"}, output="y")
    assert "{output: COLUMN}" in str(error)
    assert "the columns are instruction, input, x" in str(error)


@pytest.mark.parametrize("first", ["the longest river of Portugal and of Spain", "a\nb", "Who won?", "Ann. "])
def test_a_table_without_a_header_is_recognised_by_its_names(first: str) -> None:
    assert str(refused("dolly", {"Lisbon": "a", first: "b"})) == (
        "the first line looks like a record, not like names of columns; put a line such as question,answer before it"
    )
    assert "field 'instruction' is missing" in str(refused("dolly", {"response": "a", first: "b"}))


def test_a_line_break_in_the_name_of_a_column_is_shown_as_one() -> None:
    error = refused("dolly", {"id": "7", "a\nb\tc": "x"})
    assert "the columns are id, a\\nb\\tc; " in str(error)


@pytest.mark.parametrize("reader", [name for name in READERS if READERS[name].needed])
def test_what_a_reader_needs_is_what_it_refuses_to_miss(reader: str) -> None:
    shape = SHAPES[reader]
    assert all(name in dict(shape.row) for name in READERS[reader].needed)
    for name in READERS[reader].needed:
        assert "missing" in refused(reader, changed(shape.row, (name,), MISSING), **shape.fields).what
    row = {key: value for key, value in shape.row.items() if key not in READERS[reader].needed}
    what = refused(reader, row, **shape.fields).what
    assert all(repr(name) in what for name in READERS[reader].needed)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("data.sources.0", "train", "append data.sources.0.split=train"),
        ("data.sources.0", "My Sheet", "append 'data.sources.0.split=My Sheet'"),
        ("data.sources.0", "2024", "append 'data.sources.0.split=\"2024\"'"),
        ("data.sources.0", "it's; rm", "append 'data.sources.0.split=\"it'\"'\"'s; rm\"'"),
        ("data.sources.0", None, "append data.sources.0.split=null"),
        ("--", "a b", "add --split 'a b'"),
        ("--", None, "leave --split out"),
        ("--", "it's\na\\", r"add --split $'it\'s\na\\'"),
        ("", "train", "set split to train"),
    ],
)
def test_a_setting_is_written_as_it_must_be_typed(key: str, value: str | None, words: str) -> None:
    assert setting_words(key, "split", value) == words


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("data.sources.1", "append data.sources.1.options.empty=drop"),
        ("--", "add --option empty=drop"),
        ("", "set options.empty to drop"),
    ],
)
def test_an_option_that_a_message_names_is_written_as_it_must_be_typed(key: str, words: str) -> None:
    for reader, row in (
        ("alpaca", {"instruction": "a", "output": ""}),
        ("preference-text", {"prompt": "a", "chosen": "b", "rejected": ""}),
    ):
        with pytest.raises(DataError) as error:
            open_reader(reader, {}, {}, key=key)(row)
        assert str(error.value).endswith(f" is empty; fix the record, or {words}")


@pytest.mark.parametrize(
    "text", ["null", "2024", "1e5", "a: b", "", " a", "[x", "yes", "~", "#a", "-", "ü", "a,b", "a}b"]
)
def test_a_text_comes_back_from_yaml(text: str) -> None:
    assert to_plain(read_text(flow(text), "", lines=False)) == text
    assert to_plain(read_text(f"{{a: {flow(text)}, b: c}}", "", lines=False)) == {"a": text, "b": "c"}
