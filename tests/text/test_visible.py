"""What a terminal or a reader could be tricked with is written out, wherever the text is cut."""

from __future__ import annotations

import random
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.text.visible import visible

SEQUENCES = [
    "\x1b[2J", "\x1b[31m", "\x1b]0;title\x07", "\x1b]8;;https://example.org\x1b\\link\x1b]8;;\x1b\\", "\x1b]52;c;cGF5bG9hZA==\x07",
    "\x1bP+q544e\x1b\\", "\x1b[6n", "\x1b[c", "\x1b[?1049h", "\x1b[1A\x1b[2K", "\x1bc", "\x1b(0", "\x1b_Gf=100;\x1b\\", "\x1b^pm\x1b\\",
    "\x9b31m", "\x9d0;title\x9c", "\x90q\x9c", "\x9fapc\x9c", "\x85", "\x8d", "done\rOK ", "\b\b\b   ", "\x07", "\x00", "\x0b", "\x0c",
    "\x0e", "\x0f", "\x7f", "\x1b[20l", "\x1b[=3h", "\x1b[5i", "\x1b]1337;File=:AA\x07", "\x1b]777;notify;a;b\x07", "\x1b[>4;2m",
    "\u202etxt.exe", "\u202d", "\u2066a\u2069", "\u200b", "\u200d", "\u200e", "\u2060", "\ufeff", "\u00ad", "\u061c", "\u180e",
    "\u2028", "\u2029", "\U000e0041\U000e007f", "\U000e0100", "\ufe00", "\u3164", "\u115f", "\uffa0", "\u034f", "\ud83d", "\udc1b",
]  # fmt: skip


def _hostile() -> list[str]:
    """200 texts: every sequence alone, and mixtures of them with harmless words."""
    generator = random.Random(4)
    mixed = [
        "".join(generator.choice(SEQUENCES) + generator.choice(["", "a", " word ", "\n", "\t", "é"]) for _ in range(5))
        for _ in range(200 - len(SEQUENCES))
    ]
    return SEQUENCES + mixed


def _acts_or_hides(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") and character not in "\n\t"


@pytest.mark.parametrize("text", _hostile())
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
def test_what_was_there_can_be_read(text: str, shown: str) -> None:
    assert visible(f"a{text}b") == f"a{shown}b"


@pytest.mark.parametrize(
    "text", ["", "plain\n\ttext", "Grüße, 你好, مرحبا, नमस्ते", "👍🏽 ❤\ufe0f", "a\u00a0b", "e\u0301", "😀 ℵ", "\\x1b"]
)
def test_ordinary_text_passes(text: str) -> None:
    assert visible(text) == text


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters()), st.integers(0, 30))
def test_any_text_comes_out_harmless_and_only_once_escaped(text: str, cut: int) -> None:
    shown = visible(text)
    assert not any(map(_acts_or_hides, shown))
    assert visible(shown) == shown
    assert visible(text[:cut]) + visible(text[cut:]) == shown


def test_every_format_character_but_visible_number_signs_is_written_out() -> None:
    passing = {
        chr(code)
        for code in range(0x110000)
        if unicodedata.category(chr(code)) == "Cf" and visible(chr(code)) == chr(code)
    }
    signs = {
        character for character in passing if 0x600 <= ord(character) <= 0x8FF or 0x110BD <= ord(character) <= 0x110CD
    }
    assert passing == signs
