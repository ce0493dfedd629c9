"""Single values from the command line."""

from __future__ import annotations

from typing import Any

import pytest

from tunesmith.recipe.faults import COMMAND_LINE, RecipeFaults
from tunesmith.recipe.overrides import is_override, override
from tunesmith.recipe.reading import plain, read_text

BASE = "{a: {b: 1, c: 2}, s: [{path: x, n: 1}, {path: y}], o: {kind: p, x: 1}}"


def overridden(*words: str) -> Any:
    marked = read_text(BASE, "base.yaml")
    for word in words:
        marked = override(marked, word)
    return plain(marked)


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
def test_a_value_is_laid_over_the_recipe(word: str, key: str, value: object) -> None:
    expected = plain(read_text(BASE, "base.yaml")) | {key: value}
    assert overridden(word) == expected


def test_what_the_command_line_sets_says_so_and_the_rest_keeps_its_line() -> None:
    marked = override(read_text("s:\n- path: x\n  n: 1\n", "base.yaml"), "s.0.path=z")
    assert isinstance(marked.value, dict)
    assert isinstance(marked.value["s"].value, list)
    item = marked.value["s"].value[0].value
    assert isinstance(item, dict)
    assert item["path"].origin == COMMAND_LINE
    assert str(item["n"].origin) == "base.yaml:3"


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("s.2.path=z", "command line s.2.path: '2' is no place in the list; it has 0 to 1"),
        ("s.x=z", "command line s.x: 'x' is no place in the list"),
        ("s.-1=z", "command line s.-1: '-1' is no place in the list"),
        ("=1", "is not key=value"),
        ("a..b=1", "is not key=value"),
        ("a b=1", "is not key=value"),
        ("a+.b=1", "is not key=value"),
        ("a.b+=[1]", "command line b+: nothing to append to"),
        ("a.b=[1", "command line a.b: not valid YAML"),
        ("a.b={x: 1, x: 2}", "appears twice"),
    ],
)
def test_what_cannot_be_laid_over_is_one_clear_line(word: str, message: str) -> None:
    with pytest.raises(RecipeFaults) as caught:
        overridden(word)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("word", "yes"),
    [("a.b=1", True), ("a=./x/y.yaml", True), ("s+=[1]", True), ("./x=y/z", False), ("x.yaml", False), ("tiny", False)],
)
def test_a_word_is_a_value_by_its_look(word: str, yes: bool) -> None:
    assert is_override(word) is yes
