"""What is written reads back as the same recipe, here and in other readers of YAML."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.recipe.load import dump
from tunesmith.recipe.reading import read_text, to_plain
from tunesmith.recipe.schema import Recipe
from tunesmith.recipe.writing import yaml_lines

TEXT = st.one_of(
    st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20),
    st.text(alphabet="ab:-[]{}&*!|>'\"#%@`,?~ \n\t01.e", max_size=12),
    st.sampled_from(
        ["1e-5", "yes", "no", "null", "~", "0x10", "007", ".inf", "=", "<<", "- a", "2023-03-25", "\u2028", "true", ""]
    ),
)
KEY = st.from_regex(r"[A-Za-z][A-Za-z0-9._-]{0,8}", fullmatch=True)
NUMBER = st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans()
VALUE = st.recursive(
    st.none() | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEY, inner, max_size=3),
    max_leaves=6,
)


def text_of(value: dict[str, Any]) -> str:
    return "".join(f"{line.text}\n" for line in yaml_lines(value))


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(KEY, VALUE, min_size=1, max_size=4))
def test_any_mapping_reads_back_as_itself(value: dict[str, Any]) -> None:
    found = to_plain(read_text(text_of(value), "x"))
    assert found == value
    assert repr(found) == repr(value)  # 1 is not 1.0, and true is not 1


@settings(max_examples=150, deadline=None)
@given(TEXT)
def test_other_readers_of_yaml_see_the_same_text(text: str) -> None:
    assert yaml.safe_load(text_of({"a": text, "b": [text]})) == {"a": text, "b": [text]}


@settings(max_examples=100, deadline=None)
@given(
    TEXT,
    st.dictionaries(KEY, NUMBER | TEXT, max_size=3),
    st.dictionaries(KEY, VALUE, max_size=3),
    st.floats(1e-12, 1e3),
)
def test_any_recipe_reads_back_as_the_equal_recipe(
    about: str, options: dict[str, Any], init: dict[str, Any], rate: float
) -> None:
    recipe = Recipe.model_validate(
        {
            "name": "x",
            "about": about,
            "model": {"init": {**init, "architecture": "gpt_neox"}, "tokenizer": "t"},
            "text": {"format": "plain", "options": options, "max_length": 8},
            "data": {
                "sources": [
                    {"path": "a.jsonl", "reader": "oasst", "options": {"lang": [about]}},
                    {"path": "b", "reader": "dolly"},
                ]
            },
            "train": {"steps": 1, "batch_size": 1, "learning_rate": rate},
        }
    )
    again = Recipe.model_validate(to_plain(read_text(dump(recipe), "x")))
    assert again == recipe
    assert dump(again) == dump(recipe)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("Pythia 12B trained on text", "Pythia 12B trained on text"),
        ("./a/b.jsonl", "./a/b.jsonl"),
        ("1e-5", '"1e-5"'),
        ("no", '"no"'),
        ("Null", '"Null"'),
        ("a: b", '"a: b"'),
        ("a #b", '"a #b"'),
        ("\x1b[31m", '"\\u001b[31m"'),
        ("a\u202eb\x9b", '"a\\U0000202eb\\U0000009b"'),
        ("é", '"é"'),
    ],
)
def test_text_is_quoted_where_needed_and_cannot_act_on_a_terminal(text: str, written: str) -> None:
    assert text_of({"a": text}) == f"a: {written}\n"
