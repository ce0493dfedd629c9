"""White space as words and back: exact in what it keeps, and the same for a whole text and for a stream."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tunesmith.text.tokenizer.codec import IDENTITY, WhiteSpaceMarks, normalize_spaces, undo_marks

MARKS = ("_LB_>", "_T_>")
PARTS = [
    "a",
    "b c",
    " ",
    "   ",
    "\n",
    "\n\n",
    "\t",
    "\r\n",
    "\u00a0",
    "\u2028",
    "<",
    ">",
    "_",
    "_L",
    "_LB",
    "<_T",
    "🤖",
]
texts = st.lists(st.one_of(st.sampled_from(PARTS), st.text(max_size=3)), max_size=12).map("".join)
written = st.lists(st.sampled_from([*PARTS, *MARKS, " _LB_> ", " _T_> ", "<_LB_>", "LB_>", "_T_", ">"]), max_size=12)
codecs = st.sampled_from([WhiteSpaceMarks("keep"), WhiteSpaceMarks("drop"), IDENTITY])


def without_marks(text: str) -> str:
    """Removing one mark may join the halves of another."""
    while any(mark in text for mark in MARKS):
        for mark in MARKS:
            text = text.replace(mark, "")
    return text


@settings(max_examples=300, deadline=None)
@given(texts.map(without_marks))
@example("a\n\nb")
@example("a \n \t\n b \t")
def test_words_line_breaks_and_tabs_come_back(text: str) -> None:
    for codec in (WhiteSpaceMarks("keep"), WhiteSpaceMarks("drop")):
        encoded = codec.encode(text)
        assert "\n" not in encoded
        assert "\t" not in encoded
        assert "  " not in encoded
        without = encoded.replace("<_LB_>", "_LB_>").replace("<_T_>", "_T_>")
        for read in (encoded, without):  # from a vocabulary that has ``<``, and from T5's
            assert normalize_spaces(codec.decode(read)) == normalize_spaces(text)
    assert codec.decode(encoded) == normalize_spaces(text)


@settings(max_examples=300, deadline=None)
@given(written.map("".join), codecs, st.lists(st.integers(0, 40), max_size=4))
@example("x _LB_> _LB_> y", WhiteSpaceMarks("keep"), [7])
@example("x <_LB_> _T_> y", WhiteSpaceMarks("keep"), [4, 9])
def test_decodable_text_is_decoded_the_same_whatever_follows(
    text: str, codec: WhiteSpaceMarks, cuts: list[int]
) -> None:
    found, waiting, start = "", "", 0
    for end in [*sorted(min(cut, len(text)) for cut in cuts), len(text)]:
        waiting, start = waiting + text[start:end], end
        count = codec.count_decodable(waiting)
        found, waiting = found + codec.decode(waiting[:count]), waiting[count:]
    assert found + codec.decode(waiting) == codec.decode(text)


@pytest.mark.parametrize(
    ("text", "decodable"),
    [("word", 4), ("word ", 4), ("word _", 4), ("word _LB", 4), ("word _LB_> ", 4), ("word _LB_> x", 12), ("a_b", 3)],
)
def test_text_is_decodable_as_soon_as_no_mark_can_contain_it(text: str, decodable: int) -> None:
    assert WhiteSpaceMarks().count_decodable(text) == decodable


def test_a_codec_that_decodes_too_early_would_be_found() -> None:
    text = "x _LB_> _LB_> y"
    assert undo_marks(text[:7]) + undo_marks(text[7:]) != undo_marks(text)


def test_a_mark_that_is_spelt_out_is_decoded_as_white_space() -> None:
    codec = WhiteSpaceMarks()
    assert codec.decode(codec.encode("a <_LB_> b")) == codec.decode(codec.encode("a _LB_> b")) != "a <_LB_> b"
    assert codec.decode(codec.encode("a _LB_> b")) == "a\nb"
