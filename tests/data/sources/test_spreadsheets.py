"""Workbooks: what a cell shows is read where that is certain; sheets, formulas and what programs write wrong."""

from __future__ import annotations

import datetime
import warnings
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.outcomes import read
from tests.data.sources.workbooks import SHEET, TYPES, change_part, share_texts, write_workbook
from tunesmith.data.sources import spreadsheets
from tunesmith.data.sources.source import open_source, read_rows
from tunesmith.errors import DataError, MissingInputError, RecipeError

HEADER = ("question", "answer")
VISIBLE = st.characters(blacklist_categories=["Cs", "Cc", "Cn"], whitelist_characters="\n\t")


def found(path: Path, split: str | None = None) -> list[tuple[str, Any]]:
    """Place within the file and value of every row, or what is wrong with it."""
    read = read_rows(open_source(str(path), split))
    return [
        (str(row.where).removeprefix(str(path)), row.what)
        if isinstance(row, DataError)
        else (row.place.removeprefix(str(path)), dict(row.value))
        for row in read
    ]


def answers(path: Path) -> list[Any]:
    return [value if isinstance(value, str) else value["answer"] for _, value in found(path)]


def test_rows_are_objects_of_texts_with_the_number_of_their_row(tmp_path: Path) -> None:
    rows = [(), HEADER, ("Name a river.", "The Douro."), (None, None), (" ", ""), ("a\nb", None), (None, "Ünï 🤖")]
    assert found(write_workbook(tmp_path / "a.xlsx", {"Sheet": rows})) == [
        (":row 3", {"question": "Name a river.", "answer": "The Douro."}),
        (":row 6", {"question": "a\nb", "answer": ""}),
        (":row 7", {"question": "", "answer": "Ünï 🤖"}),
    ]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.text(VISIBLE), st.text(VISIBLE)), min_size=1, max_size=5))
def test_any_text_is_read_back(tmp_path_factory: pytest.TempPathFactory, values: list[tuple[str, str]]) -> None:
    values = [(f"'{first}", f"'{second}") for first, second in values]  # so that none is a formula or blank
    path = write_workbook(tmp_path_factory.getbasetemp() / "any.xlsx", {"Sheet": [HEADER, *values]})
    assert [tuple(value.values()) for _, value in found(path)] == values


def test_numbers_are_texts_where_their_text_is_certain(tmp_path: Path) -> None:
    rows = [HEADER, *(("a", value) for value in (1999, -3, 0.1, 0.1 + 0.2, 12345678901234, 2.5, 0))]
    path = write_workbook(tmp_path / "a.xlsx", {"Sheet": rows})
    assert answers(path) == ["1999", "-3", "0.1", "0.3", "12345678901234", "2.5", "0"]


def test_what_looks_different_in_every_program_stays_what_it_is(tmp_path: Path) -> None:
    day = datetime.datetime(2026, 11, 29)
    rows = [HEADER, ("a", day), ("b", 0.5), ("c", True), ("d", 1e300), ("e", datetime.time(1, 2)), ("f", 1.5), ("g", 7)]
    path = write_workbook(tmp_path / "a.xlsx", {"Sheet": rows})
    workbook = openpyxl.load_workbook(path)
    for cell, number_format in (("B3", "0.00%"), ("B7", "0"), ("B8", "0")):
        workbook["Sheet"][cell].number_format = number_format
    workbook.save(path)
    assert answers(path) == [day, 0.5, True, 1e300, datetime.time(1, 2), 1.5, "7"]
    refused = []
    for _, value in found(path)[:3]:
        with pytest.raises(DataError) as error:
            read("prompt-completion", value, {"prompt": "question", "completion": "answer"})
        refused.append(error.value.what)
    assert refused == [
        "field 'answer' is a date or time, not text",
        "field 'answer' is a number, not text",
        "field 'answer' is true or false, not text",
    ]


def test_a_formula_has_its_saved_value_or_its_row_is_refused(tmp_path: Path) -> None:
    rows = [HEADER, ("a", "=1+2"), ("b", '=IF(1,"",2)'), ("c", "=2+3"), ("d", "=NA()")]
    path = write_workbook(tmp_path / "a.xlsx", {"Sheet": rows})

    def save_values(text: str) -> str:
        text = text.replace("<f>1+2</f><v></v>", "<f>1+2</f><v>3</v>").replace("<f>1+2</f><v />", "<f>1+2</f><v>3</v>")
        text = text.replace('<c r="B3">', '<c r="B3" t="str">')
        return text.replace('<c r="B5"><f>NA()</f><v />', '<c r="B5" t="e"><f>NA()</f><v>#N/A</v>').replace(
            '<c r="B5"><f>NA()</f><v></v>', '<c r="B5" t="e"><f>NA()</f><v>#N/A</v>'
        )

    change_part(path, SHEET, save_values)
    assert answers(path) == ["3", "", "the formula in cell B4 has no saved value", "cell B5 has the error #N/A"]


def test_without_its_check_a_formula_without_a_value_would_be_an_empty_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_workbook(tmp_path / "a.xlsx", {"Sheet": [HEADER, ("a", "=1+2")]})
    monkeypatch.setattr(spreadsheets, "_find_lost_formula", lambda row, originals: None)
    assert answers(path) == [""]


def test_sheets_without_records_do_not_count(tmp_path: Path) -> None:
    sheets = {"Notes": [("only a title",)], "Empty": [], "Data": [HEADER, ("a", "b")]}
    assert answers(write_workbook(tmp_path / "a.xlsx", sheets)) == ["b"]


def test_several_sheets_with_records_are_named_and_one_can_be_chosen(tmp_path: Path) -> None:
    sheets = {"Train set": [HEADER, ("a", "b")], "Test": [HEADER, ("c", "d")]}
    path = write_workbook(tmp_path / "a.xlsx", sheets)
    with pytest.raises(RecipeError) as error:
        [*read_rows(open_source(str(path), key="data.sources.2"))]
    assert str(error.value) == (
        f"{path}: the workbook has records in the sheets 'Train set', 'Test'; append 'data.sources.2.split=Train set'"
    )
    assert [value["answer"] for _, value in found(path, "Test")] == ["d"]
    with pytest.raises(RecipeError, match="has no sheet 'Other'; set split to Train set"):
        found(path, "Other")
    digests = {open_source(str(path), split).digest for split in ("Test", "Train set", None)}
    assert len(digests) == 3, "the cache must not confuse two sheets of one file"


def test_hidden_sheets_are_read_only_if_they_are_chosen(tmp_path: Path) -> None:
    path = write_workbook(tmp_path / "a.xlsx", {"Data": [HEADER, ("a", "b")], "Lists": [HEADER, ("c", "d")]})
    workbook = openpyxl.load_workbook(path)
    workbook["Lists"].sheet_state = "hidden"
    workbook.save(path)
    assert answers(path) == ["b"]
    assert [value["answer"] for _, value in found(path, "Lists")] == ["d"]


def test_a_cell_outside_of_the_header_is_refused(tmp_path: Path) -> None:
    path = write_workbook(tmp_path / "a.xlsx", {"Sheet": [HEADER, ("a", "b", None, "lost"), ("c", "d")]})
    assert answers(path) == ["cell D2 is outside of the named columns", "d"]


def test_a_column_name_may_be_a_number_or_missing(tmp_path: Path) -> None:
    path = write_workbook(tmp_path / "a.xlsx", {"Sheet": [(2024, None, " answer ", None), ("a", "b", "c")]})
    assert found(path) == [(":row 2", {"2024": "a", "column 2": "b", "answer": "c"})]


def test_a_wrong_range_of_the_sheet_loses_no_cell(tmp_path: Path) -> None:
    path = write_workbook(tmp_path / "a.xlsx", {"Sheet": [HEADER, ("a", "b"), ("c", "d")]})
    change_part(path, SHEET, lambda text: text.replace('<dimension ref="A1:B3"', '<dimension ref="A1"'))
    assert answers(path) == ["b", "d"]


def test_texts_that_are_shared_by_cells_are_read(tmp_path: Path) -> None:
    path = write_workbook(tmp_path / "a.xlsx", {"Sheet": [HEADER, ("Name a river.", " The Douro "), ("x", 3)]})
    assert share_texts(path).stat().st_size
    assert found(path) == [
        (":row 2", {"question": "Name a river.", "answer": " The Douro "}),
        (":row 3", {"question": "x", "answer": "3"}),
    ]


def test_control_characters_are_read_as_excel_writes_them(tmp_path: Path) -> None:
    path = write_workbook(tmp_path / "a.xlsx", {"Sheet": [HEADER, ("a", "one_x000D_\ntwo_x0009_three _x20_")]})
    assert answers(path) == ["one\r\ntwo\tthree _x20_"]


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("_x005F_x000D_", "_x000D_"),
        ("_x005F_x0041_", "_x0041_"),
        ("_x005f_x005F_x005F_x000D_", "_x005F_x000D_"),
        ("_x0041_", "A"),
        ("_xD83E__xDD16_", "🤖"),
        ("_x00e9_t_x00E9_ _x1F_ _x_", "été _x1F_ _x_"),
    ],
)
def test_an_escape_is_decoded_once_from_left_to_right(written: str, text: str, tmp_path: Path) -> None:
    assert answers(write_workbook(tmp_path / "a.xlsx", {"Sheet": [HEADER, ("a", written)]})) == [text]


def test_half_a_character_in_an_escape_is_refused(tmp_path: Path) -> None:
    path = write_workbook(tmp_path / "a.xlsx", {"Sheet": [HEADER, ("a", "_xD83E_ b")]})
    assert "has half a character in it" in answers(path)[0]


def test_a_row_number_that_no_sheet_has_is_refused(tmp_path: Path) -> None:
    path = write_workbook(tmp_path / "a.xlsx", {"Sheet": [HEADER, ("a", "b")]})
    change_part(path, SHEET, lambda text: text.replace('<row r="2"', '<row r="99999999999"').replace("A2", "A9999999"))
    with pytest.raises(DataError, match="a sheet has at most 1,048,576 rows"):
        found(path)


def test_entities_that_grow_without_end_are_refused(tmp_path: Path) -> None:
    path = write_workbook(tmp_path / "a.xlsx", {"Sheet": [HEADER, ("a", "b")]})
    entities = "".join(f'<!ENTITY e{number} "{f"&e{number - 1};" * 10}">' for number in range(1, 12))
    document = f'<!DOCTYPE x [<!ENTITY e0 "aaaaaaaaaa">{entities}]>'
    change_part(path, SHEET, lambda text: document + text.replace(">b<", ">&e11;<"))
    with pytest.raises(DataError, match="the Excel workbook is broken"):
        found(path)


def test_a_damaged_workbook_gives_no_row(tmp_path: Path) -> None:
    whole = write_workbook(tmp_path / "a.xlsx", {"Sheet": [HEADER, ("a", "b")]}).read_bytes()
    path = tmp_path / "b.xlsx"
    for length in range(10, len(whole), 53):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match="the Excel workbook is broken"):
            found(path)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_changed_part_gives_rows_or_one_of_our_errors(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = write_workbook(tmp_path_factory.getbasetemp() / "c.xlsx", {"Sheet": [HEADER, ("a", "=1"), ("c", 2)]})
    part = data.draw(st.sampled_from((SHEET, "xl/workbook.xml", "xl/styles.xml", TYPES)))

    def damage(text: str) -> str:
        place, length = data.draw(st.integers(0, len(text) - 1)), data.draw(st.sampled_from((0, 1, 5)))
        return (
            text[:place] + data.draw(st.sampled_from(("", "9", "<", '"', "&", "</row>", "s"))) + text[place + length :]
        )

    change_part(path, part, damage)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing of openpyxl reaches the screen
        try:
            found(path)
        except (DataError, MissingInputError, RecipeError) as error:
            assert "\n" not in str(error)  # noqa: PT017
