"""YAML -> marked values: numbers are numbers, lines are remembered, hostile files are one clear line."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.errors import MissingInputError
from tunesmith.recipe.faults import RecipeFaults
from tunesmith.recipe.reading import plain, read_file, read_text, scalar


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("1E3", 1000.0),
        (".5", 0.5),
        ("2.", 2.0),
        ("-0.25", -0.25),
        ("0xa1221f97", 2703368087),
        ("0o17", 15),
        ("12", 12),
        ("-3", -3),
        ("1_000", 1000),
        ("true", True),
        ("false", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("no", "no"),
        ("on", "on"),
        ("007", "007"),
        ("1e999", "1e999"),
        (".inf", ".inf"),
        ("2023-03-25", "2023-03-25"),
        ("1:30", "1:30"),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_an_unquoted_word_is_what_it_looks_like(text: str, value: object) -> None:
    assert scalar(text) == value
    assert type(scalar(text)) is type(value)


def test_every_value_knows_its_line() -> None:
    marked = read_text("a: 1\nb:\n  c: [1,\n    2]\n", "x.yaml")
    assert isinstance(marked.value, dict)
    inner = marked.value["b"].value
    assert isinstance(inner, dict)
    assert isinstance(inner["c"].value, list)
    assert [str(item.origin) for item in inner["c"].value] == ["x.yaml:3", "x.yaml:4"]
    assert str(marked.value["b"].origin) == "x.yaml:2"


def test_quotes_keep_text() -> None:
    assert plain(read_text("a: '1e-5'\nb: \"true\"\nc: |\n  12\n", "x")) == {"a": "1e-5", "b": "true", "c": "12\n"}


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def bomb() -> str:
    """Ten lines that stand for ten to the tenth values."""
    lines = ["a0: &a0 [1,1,1,1,1,1,1,1,1,1]"]
    lines += [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "x.yaml:3 a: appears twice, first in line 1"),
        ("t:\n  a: 1\n  a: 3\n", "x.yaml:3 t.a: appears twice, first in line 2"),
        ("a: [1, 2\nb: 3\n", "x.yaml:2: not valid YAML: "),
        ("a: 1\n---\nb: 2\n", "x.yaml:2: not valid YAML: expected a single document"),
        ("a: *nowhere\n", "x.yaml:1: not valid YAML: "),
        ("a: !!python/object/apply:os.system ['x']\n", "x.yaml:1 a: tags such as"),
        ("a: !!float 1\n", "x.yaml:1 a: tags such as"),
        ("a: &a [*a]\n", "deeper than 32 levels"),
        ("[1]: 2\n", "x.yaml:1: a key must be a word"),
        ("a++: [1]\n", "x.yaml:1 a++: one '+' appends"),
        ("a: \x00\n", "x.yaml: not valid YAML: special characters are not allowed"),
        (f"a: {nested(40)}\n", "deeper than 32 levels"),
        (f"a: {nested(100_000)}\n", "nested too deeply"),
        (bomb(), "more than 20000 values"),
    ],
)
def test_what_is_no_recipe_is_one_clear_line(text: str, message: str) -> None:
    with pytest.raises(RecipeFaults) as caught:
        read_text(text, "x.yaml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_repeated_keys_are_reported_together() -> None:
    with pytest.raises(RecipeFaults) as caught:
        read_text("a: 1\na: 2\nb: 1\nb: 2\n", "x")
    assert str(caught.value).splitlines() == [
        "x:2 a: appears twice, first in line 1",
        "x:4 b: appears twice, first in line 3",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"- 1\n", "a recipe is a mapping"),
        (b"", "a recipe is a mapping"),
        (b"a: \xff\n", "is not UTF-8 text (byte 3)"),
        (b"a: 1\n" * 300_000, "1500000 bytes are no recipe"),
    ],
)
def test_a_file_that_is_no_recipe_is_one_clear_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeFaults, match=r"x\.yaml") as caught:
        read_file(path, "x.yaml")
    assert message in str(caught.value)


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: a\r\n")
    assert plain(read_file(path, "x")) == {"name": "a"}


def test_a_file_that_cannot_be_read_is_missing_input(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"x\.yaml: cannot be read"):
        read_file(tmp_path / "x.yaml", "x.yaml")


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=60), st.text(alphabet="ab:-[]{}&*!|>'\"#%@`,?~ \n\t01.e", max_size=60)))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(RecipeFaults):
        plain(read_text(text, "x"))
