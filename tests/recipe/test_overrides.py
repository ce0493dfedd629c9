"""Single values from the command line."""

from __future__ import annotations

from typing import Any

import pytest

from tunesmith.recipe.overrides import is_override, override
from tunesmith.recipe.problems import COMMAND_LINE, InvalidRecipeError
from tunesmith.recipe.reading import read_text, to_plain

BASE = "{a: {b: 1, c: 2}, s: [{path: x, n: 1}, {path: y}], o: {kind: p, x: 1}}"


def overridden(*words: str) -> Any:
    located = read_text(BASE, "base.yaml")
    for word in words:
        located = override(located, word)
    return to_plain(located)


@pytest.mark.parametrize(
    ("word", "key", "value"),
    [
        ("a.b=1e-5", "a", {"b": 1e-5, "c": 2}),
        ("a.b=null", "a", {"b": None, "c": 2}),
        ("a.b=", "a", {"b": None, "c": 2}),
        ("a.d.e=x y", "a", {"b": 1, "c": 2, "d": {"e": "x y"}}),
        ("a={b: 5}", "a", {"b": 5, "c": 2}),
        ("a.b='1'", "a", {"b": "1", "c": 2}),
        ("a.b=x=y", "a", {"b": "x=y", "c": 2}),
        ("s.0.path=z", "s", [{"path": "z", "n": 1}, {"path": "y"}]),
        ("s.1={path: z, n: 2}", "s", [{"path": "x", "n": 1}, {"path": "z", "n": 2}]),
        ("s+=[{path: z}]", "s", [{"path": "x", "n": 1}, {"path": "y"}, {"path": "z"}]),
        ("s=[]", "s", []),
        ("s.0.tags+=[1]", "s", [{"path": "x", "n": 1, "tags": [1]}, {"path": "y"}]),
        ("o.kind=q", "o", {"kind": "q"}),
        ("o.kind=p", "o", {"kind": "p", "x": 1}),
        ("new=1", "new", 1),
    ],
)
def test_a_value_overrides_that_of_the_recipe(word: str, key: str, value: object) -> None:
    expected = to_plain(read_text(BASE, "base.yaml")) | {key: value}
    assert overridden(word) == expected


def test_the_origin_of_an_override_is_the_command_line_and_other_values_keep_their_line() -> None:
    located = override(read_text("s:\n- path: x\n  n: 1\n", "base.yaml"), "s.0.path=z")
    assert isinstance(located.value, dict)
    assert isinstance(located.value["s"].value, list)
    item = located.value["s"].value[0].value
    assert isinstance(item, dict)
    assert item["path"].origin == COMMAND_LINE
    assert str(item["n"].origin) == "base.yaml:3"


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("s.2.path=z", "command line s.2.path: '2' is not an index of this list, which has the indices 0 to 1"),
        ("s.x=z", "command line s.x: 'x' is not an index of this list"),
        ("s.-1=z", "command line s.-1: '-1' is not an index of this list"),
        ("=1", "is not written as key=value"),
        ("a..b=1", "is not written as key=value"),
        ("a b=1", "is not written as key=value"),
        ("a+.b=1", "is not written as key=value"),
        ("a.b+=[1]", "command line b+: '+' appends to a list, and b is not a list"),
        ("a.b=[1", "command line a.b: the text is not valid YAML"),
        ("a.b={x: 1, x: 2}", "appears twice"),
    ],
)
def test_an_impossible_override_is_one_clear_line(word: str, message: str) -> None:
    with pytest.raises(InvalidRecipeError) as caught:
        overridden(word)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("word", "yes"),
    [("a.b=1", True), ("a=./x/y.yaml", True), ("s+=[1]", True), ("./x=y/z", False), ("x.yaml", False), ("tiny", False)],
)
def test_a_word_is_a_value_by_its_spelling(word: str, yes: bool) -> None:
    assert is_override(word) is yes
