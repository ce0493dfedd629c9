"""Tokens in a terminal: the text is complete, borders and control tokens are visible without colours."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from tests.text.hostile import hostile_texts
from tunesmith.apps.token_view import token_lines, token_text
from tunesmith.text.tokens.show import ShownToken
from tunesmith.text.visible import visible

TOKENS = [
    ShownToken("<|im_start|>", (5,), "user", False, True),
    ShownToken("Hi\n", (17, 18), "user", False, False),
    ShownToken(" you", (300,), "user", False, False),
    ShownToken("### Response:\n", (6,), "assistant", False, True),
]


def _printed(text: Text, no_color: bool) -> str:
    written = io.StringIO()
    Console(file=written, force_terminal=True, width=80, color_system="standard", no_color=no_color).print(text)
    return written.getvalue()


def test_every_turn_has_a_heading_and_white_space_has_marks() -> None:
    assert token_text(TOKENS, lambda text: True).plain == "user\n<|im_start|>Hi↵\n·you\nassistant\n###·Response:↵\n"
    assert "Hi\\n\n you" in token_text(TOKENS, str.isascii).plain


@pytest.mark.parametrize("no_color", [True, False])
def test_borders_are_seen_with_and_without_colours(no_color: bool) -> None:
    printed = _printed(token_text(TOKENS, lambda text: True), no_color)
    assert ("\x1b[4" in printed) or (";4" in printed)
    assert ("35m" in printed) == (not no_color)


def test_a_line_has_the_role_the_ids_and_the_text_of_a_token() -> None:
    assert token_lines(TOKENS).split("\n") == [
        "user           5  <|im_start|>",
        'user       17,18  "Hi\\n"',
        'user         300  " you"',
        "assistant      6  ### Response:\\n",
    ]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(hostile_texts()), st.booleans()), min_size=1, max_size=3))
def test_no_text_of_a_token_controls_the_terminal(drawn: list[tuple[str, bool]]) -> None:
    tokens = [ShownToken(text, (1,), "user", False, control) for text, control in drawn]
    shown = token_text(tokens, lambda text: True).plain
    assert shown == visible(shown)
    assert len(token_lines(tokens).split("\n")) == len(tokens)
