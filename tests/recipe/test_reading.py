"""YAML -> located values: numbers are numbers, every value has its line, hostile files are one clear line."""

from __future__ import annotations

import contextlib
import traceback
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.errors import MissingInputError
from tunesmith.recipe.problems import InvalidRecipeError, Origin, RecipeProblem
from tunesmith.recipe.reading import parse_scalar, read_file, read_text, to_plain


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
def test_an_unquoted_word_is_read_as_in_yaml_1_2(text: str, value: object) -> None:
    assert parse_scalar(text) == value
    assert type(parse_scalar(text)) is type(value)


def test_every_value_has_its_line() -> None:
    located = read_text("a: 1\nb:\n  c: [1,\n    2]\n", "x.yaml")
    assert isinstance(located.value, dict)
    inner = located.value["b"].value
    assert isinstance(inner, dict)
    assert isinstance(inner["c"].value, list)
    assert [str(item.origin) for item in inner["c"].value] == ["x.yaml:3", "x.yaml:4"]
    assert str(located.value["b"].origin) == "x.yaml:2"


def test_quotes_keep_text() -> None:
    assert to_plain(read_text("a: '1e-5'\nb: \"true\"\nc: |\n  12\n", "x")) == {"a": "1e-5", "b": "true", "c": "12\n"}


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def bomb() -> str:
    """Ten lines that expand to ten to the tenth values."""
    lines = ["a0: &a0 [1,1,1,1,1,1,1,1,1,1]"]
    lines += [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "x.yaml:3 a: the key appears twice, first in line 1"),
        ("t:\n  a: 1\n  a: 3\n", "x.yaml:3 t.a: the key appears twice, first in line 2"),
        ("a: [1, 2\nb: 3\n", "x.yaml:2: the text is not valid YAML: "),
        ("a: 1\n---\nb: 2\n", "x.yaml:2: the text is not valid YAML: expected a single document"),
        ("a: *nowhere\n", "x.yaml:1: the text is not valid YAML: "),
        ("a: !!python/object/apply:os.system ['x']\n", "x.yaml:1 a: YAML tags are not supported"),
        ("a: !!float 1\n", "x.yaml:1 a: YAML tags are not supported"),
        ("a: &a [*a]\n", "at most 32 nested levels"),
        ("[1]: 2\n", "x.yaml:1: a key must be a single word"),
        ("a++: [1]\n", "x.yaml:1 a++: a key that appends to a list ends in one '+'"),
        ("a: \x00\n", "x.yaml: the text is not valid YAML: special characters are not allowed"),
        (f"a: {nested(40)}\n", "at most 32 nested levels"),
        (f"a: {nested(100_000)}\n", "32 nested levels"),
        (bomb(), "at most 20000 values"),
    ],
)
def test_text_that_is_not_a_recipe_is_one_clear_line(text: str, message: str) -> None:
    with pytest.raises(InvalidRecipeError) as caught:
        read_text(text, "x.yaml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("unit", "count", "limit"),
    [
        ("[", 50_000, "32 nested levels"),
        ("{a: ", 50_000, "32 nested levels"),
        ("- ", 50_000, "32 nested levels"),
        ("- \n", 60_000, "20000 values"),
        ("a: b\n", 60_000, "20000 values"),
    ],
)
def test_a_text_over_a_limit_is_not_read_to_its_end(unit: str, count: int, limit: str) -> None:
    """The scanner had needed 30 seconds for 50,000 brackets, and four minutes for 300,000 items."""
    text = unit * count
    with pytest.raises(InvalidRecipeError, match=f"at most {limit}") as caught:
        read_text(text, "x")
    assert caught.value.problems[0].origin.line > 0
    assert caught.value.__cause__ is not None
    *_, (frame, _) = traceback.walk_tb(caught.value.__cause__.__traceback__)
    assert frame.f_locals["self"].index < len(text)


def test_the_deepest_recipe_is_read_in_every_style() -> None:
    for text in ("[" * 33 + "]" * 33, "- " * 32 + "x", "{a: " * 32 + "1" + "}" * 32):
        read_text(text, "x")
        with pytest.raises(InvalidRecipeError, match="32 nested levels"):
            read_text(f"{{a: {text}}}" if text.startswith(("[", "{")) else f"- {text}", "x")


def test_a_problem_with_a_long_value_is_shown_in_part() -> None:
    long = str(RecipeProblem(Origin("a.yaml", 3), "card.license", f"'{'x ' * 250_000}' is no license; use another"))
    assert len(long) < 3100
    assert long.startswith("a.yaml:3 card.license: 'x x ")
    assert long.endswith("' is no license; use another")


def test_all_repeated_keys_are_reported_together() -> None:
    with pytest.raises(InvalidRecipeError) as caught:
        read_text("a: 1\na: 2\nb: 1\nb: 2\n", "x")
    assert str(caught.value).splitlines() == [
        "x:2 a: the key appears twice, first in line 1; remove one of the two",
        "x:4 b: the key appears twice, first in line 3; remove one of the two",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"- 1\n", "a recipe is a mapping"),
        (b"", "a recipe is a mapping"),
        (b"a: \xff\n", "the file is not UTF-8 text (byte 3)"),
        (b"a: 1\n" * 300_000, "at most 1048576 bytes, and this one has more"),
    ],
)
def test_a_file_that_is_not_a_recipe_is_one_clear_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(InvalidRecipeError, match=r"x\.yaml") as caught:
        read_file(path, "x.yaml")
    assert message in str(caught.value)


def test_a_byte_order_mark_is_not_part_of_the_first_key(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: a\r\n")
    assert to_plain(read_file(path, "x")) == {"name": "a"}


def test_a_file_that_cannot_be_read_is_missing_input(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"x\.yaml: the file cannot be read"):
        read_file(tmp_path / "x.yaml", "x.yaml")


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=60), st.text(alphabet="ab:-[]{}&*!|>'\"#%@`,?~ \n\t01.e", max_size=60)))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidRecipeError):
        to_plain(read_text(text, "x"))
