"""Tables of texts and paragraphs: delimiter, quotes, header, places; what is not certain is refused."""

from __future__ import annotations

import csv
import io
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.small_runs import as_table
from tunesmith.data.sources import tables
from tunesmith.data.sources.source import open_source, read_rows, rows
from tunesmith.errors import DataError

TEXTS = st.text(alphabet=st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=12)


def found(path: Path, content: str | bytes) -> list[tuple[str, dict[str, str]]]:
    """Place within the file and value of every row."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return [(row.place.removeprefix(str(path)), dict(row.value)) for row in rows(str(path))]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_of_the_header_line_is_used(delimiter: str, tmp_path: Path) -> None:
    lines = (("question", "answer"), ("a, b; c | d", "e"), ("say now", "f"))
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows(lines)
    assert found(tmp_path / "a.csv", text.getvalue()) == [
        (":2", {"question": "a, b; c | d", "answer": "e"}),
        (":3", {"question": "say now", "answer": "f"}),
    ]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=6), st.sampled_from(",;\t|"), st.sampled_from((0, 1)))
def test_what_the_module_csv_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, values: list[tuple[str, str]], delimiter: str, quoting: int
) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, quoting=quoting).writerows([("a", "b"), *values])
    path = tmp_path_factory.getbasetemp() / "written.csv"
    path.write_bytes(text.getvalue().encode())
    filled = [{"a": first, "b": second} for first, second in values if first.strip() or second.strip()]
    assert [row.value for row in read_rows(open_source(str(path))) if not isinstance(row, DataError)] == filled


def test_a_row_has_the_line_on_which_it_starts(tmp_path: Path) -> None:
    content = '\n\nquestion,answer\r\n"one\ntwo\n",a\r\n\r\n,\n"b ""c""","d\r\ne"\nlast,line'
    assert found(tmp_path / "a.csv", content) == [
        (":4", {"question": "one\ntwo\n", "answer": "a"}),
        (":9", {"question": 'b "c"', "answer": "d\r\ne"}),
        (":11", {"question": "last", "answer": "line"}),
    ]


def test_a_byte_order_mark_and_a_declared_delimiter_are_understood(tmp_path: Path) -> None:
    expected = [(":3", {"a,b": "1;2", "c": "x,y"})]
    for start in ("", "\ufeff"):
        assert found(tmp_path / "a.csv", f'{start}sep=;\r\na,b;c\r\n"1;2";x,y\r\n') == expected


def test_every_cell_is_a_text_and_an_empty_cell_is_an_empty_text(tmp_path: Path) -> None:
    content = "a,b,c,d\n1,2026-01-02,true,\n,NaN,null, x \n"
    assert [value for _, value in found(tmp_path / "a.csv", content)] == [
        {"a": "1", "b": "2026-01-02", "c": "true", "d": ""},
        {"a": "", "b": "NaN", "c": "null", "d": " x "},
    ]


def test_a_column_without_a_name_has_its_number_as_its_name(tmp_path: Path) -> None:
    assert found(tmp_path / "a.csv", ",question, answer ,\n0,a,b,\n") == [
        (":2", {"column 1": "0", "question": "a", "answer": "b", "column 4": ""})
    ]


def test_a_table_with_one_column_needs_no_delimiter(tmp_path: Path) -> None:
    assert found(tmp_path / "a.csv", "prompt\nName a river.\n\nAnd a lake\n") == [
        (":2", {"prompt": "Name a river."}),
        (":4", {"prompt": "And a lake"}),
    ]


def test_commas_do_not_divide_a_file_of_tabs(tmp_path: Path) -> None:
    assert found(tmp_path / "a.tsv", "a,b,c\td\n1,2\t3\n") == [(":2", {"a,b,c": "1,2", "d": "3"})]


def test_quotes_inside_a_cell_without_quotes_are_characters(tmp_path: Path) -> None:
    assert found(tmp_path / "a.csv", 'a,b\nHe said "yes",it\'s 5" long\n') == [
        (":2", {"a": 'He said "yes"', "b": "it's 5\" long"})
    ]


@pytest.mark.parametrize(
    "row", ['Hi, "quoted text"', 'Hi,  "quoted, text"', ' "Hi",there', '"a\nb", "say ""yes"""', 'Hi, ""']
)
def test_a_space_before_the_quotes_of_a_cell_is_refused(row: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"question,answer\n{row}\nnext,row\n")
    first, second = read_rows(open_source(str(path)))
    assert isinstance(first, DataError)
    assert str(first.where) == f"{path}:2"
    assert first.what.endswith("has a space before its quotation mark")
    assert first.advice == "remove the space before the quotation mark"
    assert not isinstance(second, DataError)
    path.write_text('question, "answer"\na,b\n')
    with pytest.raises(DataError, match=":1: cell 2 has a space before its quotation mark"):
        [*rows(str(path))]


@pytest.mark.parametrize("cell", [' "yes" and "no"', ' he said "yes"', ' 5" long', ' "a" b'])
def test_a_text_that_has_quotes_in_it_stays_as_it_is(cell: str, tmp_path: Path) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([("a", "b"), ("c", f' "{cell}"')])
    assert found(tmp_path / "a.csv", f"a,b\nc,{cell}\n") == [(":2", {"a": "c", "b": cell})]
    assert found(tmp_path / "b.csv", text.getvalue()) == [(":2", {"a": "c", "b": f' "{cell}"'})]


def test_a_cell_may_be_longer_than_the_module_csv_allows_by_default(tmp_path: Path) -> None:
    long = "word " * 100_000
    assert found(tmp_path / "a.csv", f'a,b\n"{long}",c\n') == [(":2", {"a": long, "b": "c"})]


def test_a_wrong_row_is_reported_and_the_next_one_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1\n2,3\n4,5,6\n7,8\n", encoding="utf-8")
    read = [*read_rows(open_source(str(path)))]
    assert [str(row.where).removeprefix(str(path)) for row in read if isinstance(row, DataError)] == [":2", ":4"]
    assert [row.value["b"] for row in read if not isinstance(row, DataError)] == ["3", "8"]


def test_without_its_check_a_cut_row_would_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_record", lambda columns, row, delimiter: dict(zip(columns, row, strict=False)))
    assert found(tmp_path / "a.csv", "a,b\n1,2,3\n") == [(":2", {"a": "1", "b": "2"})]


def test_paragraphs_are_separated_by_blank_lines(tmp_path: Path) -> None:
    content = "\ufeff\none\r\n  two\r\n\r\n \t\n\nthree \n\n\nfour"
    assert found(tmp_path / "a.txt", content) == [
        (":2", {"text": "one\n  two"}),
        (":7", {"text": "three "}),
        (":10", {"text": "four"}),
    ]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(TEXTS, min_size=1, max_size=3), min_size=1, max_size=4))
def test_no_line_of_a_text_is_lost(tmp_path_factory: pytest.TempPathFactory, paragraphs: list[list[str]]) -> None:
    text = "\n\n".join("\n".join(lines) for lines in paragraphs)
    path = tmp_path_factory.getbasetemp() / "paragraphs.txt"
    path.write_bytes(text.encode())
    read = read_rows(open_source(str(path))) if text else ()
    lines = [line for row in read if not isinstance(row, DataError) for line in row.value["text"].split("\n")]
    kept = [line.removesuffix("\r") for line in text.removeprefix("\ufeff").split("\n") if line.strip()]
    assert lines == kept or text.strip().lower().startswith(("<", "{", "["))


def test_memory_does_not_grow_with_the_number_of_paragraphs(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("".join(f"{'word ' * 2000}{number}\n\n" for number in range(2000)), encoding="utf-8")  # 20 MB
    reading = rows(str(path))
    next(reading)
    tracemalloc.start()
    assert sum(1 for _ in reading) == 1999
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12 * 2**20


def test_the_helper_of_these_tests_quotes_every_cell() -> None:
    assert as_table([{"a": 'x"y', "b": ""}], ",") == '"a","b"\r\n"x""y",""\r\n'
