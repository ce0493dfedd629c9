"""The text of a drafted recipe loads to its values, whatever these are."""

from __future__ import annotations

from typing import Any

import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from tunesmith.compose.draft.recipe_text import WIDTH, DraftRecipe, Value

keys = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)
plain = st.text(max_size=12) | st.integers(-99, 99) | st.booleans() | st.none()
values = st.builds(
    Value,
    plain | st.lists(plain, max_size=2) | st.dictionaries(keys, plain, min_size=1, max_size=2),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=90),
)
some_values = st.dictionaries(keys, values, min_size=1, max_size=3)
nested = st.dictionaries(keys, values | some_values | some_values.map(lambda item: [item]), min_size=1, max_size=4)


def bare(content: Any) -> Any:
    """The values without their comments."""
    if isinstance(content, Value):
        return content.value
    if isinstance(content, list):
        return [bare(item) for item in content]
    return {key: bare(value) for key, value in content.items()}


@example({"no": Value(None)})
@given(nested)
def test_any_values_are_read_back_as_they_are(given_values: dict[str, Any]) -> None:
    text = DraftRecipe("about", ("a command",), "sft", given_values).text()
    assert yaml.safe_load(text) == {**bare(given_values), "extends": "sft"} | bare(given_values)


def test_a_comment_that_does_not_fit_is_on_the_line_before() -> None:
    text = DraftRecipe("about", (), "sft", {"text": {"format": Value("chatml", "x" * WIDTH)}}).text()
    assert f"  # {'x' * WIDTH}\n  format: chatml\n" in text


def test_a_list_item_begins_after_the_comment_of_its_first_value() -> None:
    text = DraftRecipe("about", (), "sft", {"sources": [{"path": Value("a", "x" * WIDTH), "b": Value(1)}]}).text()
    assert yaml.safe_load(text)["sources"] == [{"path": "a", "b": 1}]
