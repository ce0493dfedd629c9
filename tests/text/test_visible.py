"""Control characters and invisible characters are escaped, wherever a text is split."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.text.hostile import SEQUENCES, hostile_texts
from tunesmith.text.visible import visible


def _acts_or_hides(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") and character not in "\n\t"


@pytest.mark.parametrize("text", hostile_texts())
def test_nothing_of_a_hostile_text_reaches_the_terminal(text: str) -> None:
    shown = visible(text)
    assert "\x1b" not in shown
    assert not any(map(_acts_or_hides, shown))
    assert shown.encode()  # no lone surrogate is left
    assert [visible(text[:cut]) + visible(text[cut:]) for cut in range(len(text))] == [shown] * len(text)


@pytest.mark.parametrize("text", SEQUENCES)
def test_every_hostile_sequence_is_changed(text: str) -> None:
    assert visible(text) != text


@pytest.mark.parametrize(
    ("text", "shown"),
    [("\x1b", "\\x1b"), ("\r", "\\x0d"), ("\x9b", "\\x9b"), ("\u202e", "\\u202e"), ("\U000e0041", "\\U000e0041")],
)
def test_the_escaped_characters_can_be_read(text: str, shown: str) -> None:
    assert visible(f"a{text}b") == f"a{shown}b"


@pytest.mark.parametrize(
    "text", ["", "plain\n\ttext", "Grüße, 你好, مرحبا, नमस्ते", "👍🏽 ❤\ufe0f", "a\u00a0b", "e\u0301", "😀 ℵ", "\\x1b"]
)
def test_ordinary_text_is_unchanged(text: str) -> None:
    assert visible(text) == text


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters()), st.integers(0, 30))
def test_any_text_comes_out_harmless_and_only_once_escaped(text: str, cut: int) -> None:
    shown = visible(text)
    assert not any(map(_acts_or_hides, shown))
    assert visible(shown) == shown
    assert visible(text[:cut]) + visible(text[cut:]) == shown


def test_every_format_character_but_visible_number_signs_is_escaped() -> None:
    passing = {
        chr(code)
        for code in range(0x110000)
        if unicodedata.category(chr(code)) == "Cf" and visible(chr(code)) == chr(code)
    }
    signs = {
        character for character in passing if 0x600 <= ord(character) <= 0x8FF or 0x110BD <= ord(character) <= 0x110CD
    }
    assert passing == signs
