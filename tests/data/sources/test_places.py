"""What cannot be seen in an editor is named, and every record has a place where it can be found."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.data.bad_files import GOOD
from tunesmith.data.sources.source import open_source, read_rows, rows
from tunesmith.errors import DataError

INVISIBLE = {
    "a byte order mark": ("\ufeff", r"the invisible mark U\+FEFF .*, which some programs write at the beginning"),
    "a zero width space": ("\u200b", r"invisible character U\+200B \(zero width space\) outside of texts"),
    "a no-break space": ("\u00a0", r"invisible character U\+00A0 \(no-break space\)"),
    "a right-to-left mark": ("\u200f", r"U\+200F \(right-to-left mark\)"),
    "a line separator": ("\u2028", r"U\+2028 \(line separator\)"),
}


@pytest.mark.parametrize(("character", "says"), INVISIBLE.values(), ids=INVISIBLE)
def test_an_invisible_character_outside_of_texts_is_named(character: str, says: str, tmp_path: Path) -> None:
    good, odd = GOOD.decode(), tmp_path / "a.jsonl"
    for line in (character + good, good + character, "{" + character + good[1:]):
        odd.write_text(f"{good}\n{line}\n{good}\n", encoding="utf-8")
        first, error, last = read_rows(open_source(str(odd)))
        assert isinstance(error, DataError), line
        assert error.where == f"{odd}:2"
        assert re.search(says, str(error)), error
        assert "remove it" in str(error)
        assert not isinstance(first, DataError)
        assert not isinstance(last, DataError)
    whole = tmp_path / "a.json"
    for text in (f"[{good}{character},{good}]", f"[{good},{character}{good}]", f" {character}[{good}]"):
        whole.write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=says):
            [*rows(str(whole))]


def test_records_of_a_list_on_one_line_have_different_places(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"a": number} for number in range(40)] + [3]))
    places = []
    with pytest.raises(DataError, match="the list has a number in it") as refused:
        places += [row.place for row in read_rows(open_source(str(path))) if not isinstance(row, DataError)]
    assert refused.value.where == f"{path}:1[40]"
    path.write_text(json.dumps([{"a": number} for number in range(40)]))
    assert [row.place for row in rows(str(path))] == [f"{path}:1[{number}]" for number in range(40)]
