"""Streaming: whole characters only, and all pieces together are the full decode."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.text.tokenizer.stream import StreamDecoder
from tunesmith.text.tokenizer.tokenizer import Tokenizer

KINDS = ("byte_level", "prefixed", "unigram")


def pieces(tokenizer: Tokenizer, ids: list[int], *, continuing: bool = False) -> list[str]:
    decoder = StreamDecoder(tokenizer, continuing=continuing)
    return [*(decoder.push(token) for token in ids), decoder.finish()]


@settings(max_examples=150, deadline=None)
@given(data=st.data(), kind=st.sampled_from(KINDS), continuing=st.booleans())
def test_any_tokens_stream_to_their_full_decode(
    data: st.DataObject, kind: str, continuing: bool, load: Callable[..., Tokenizer]
) -> None:
    tokenizer = load(kind)
    # the first 260 ids of these vocabularies are their single bytes and control tokens: mostly invalid sequences
    ids = data.draw(st.lists(st.one_of(st.integers(0, 259), st.integers(0, tokenizer.size - 1)), max_size=60))
    parts = pieces(tokenizer, ids, continuing=continuing)
    assert "".join(parts) == tokenizer.decode(ids, continuing=continuing)


@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=40), kind=st.sampled_from(KINDS[:2]))
def test_text_streams_in_whole_characters(text: str, kind: str, load: Callable[..., Tokenizer]) -> None:
    tokenizer = load(kind)
    ids = tokenizer.encode(text)
    full = tokenizer.decode(ids)
    parts = pieces(tokenizer, ids)
    assert "".join(parts) == full
    if "\N{REPLACEMENT CHARACTER}" not in full:
        assert not any("\N{REPLACEMENT CHARACTER}" in part for part in parts)


def test_decoding_token_by_token_would_break_characters(load: Callable[..., Tokenizer]) -> None:
    tokenizer = load("byte_level")
    ids = tokenizer.encode("a 🤖 b")
    assert "".join(tokenizer.decode([token]) for token in ids) != "a 🤖 b"
    assert "".join(pieces(tokenizer, ids)) == "a 🤖 b"


def test_text_is_returned_as_soon_as_it_is_final(load: Callable[..., Tokenizer]) -> None:
    tokenizer = load("byte_level")
    ids = tokenizer.encode("The cat sat on the mat")
    assert [bool(part) for part in pieces(tokenizer, ids)] == [True] * len(ids) + [False]


@pytest.mark.parametrize("kind", KINDS[:2])
def test_the_work_for_a_token_does_not_grow(kind: str, tokenizer_directories: dict[str, Path]) -> None:
    """The number of tokens decoded in all grows with the length, not with its square, even if no character is valid."""

    class Counting(Tokenizer):
        decoded = 0

        def decode(self, ids, *, skip_controls=True, continuing=False):  # type: ignore[no-untyped-def]
            self.decoded += len(ids)
            return super().decode(ids, skip_controls=skip_controls, continuing=continuing)

    tokenizer = Counting.load(str(tokenizer_directories[kind]))
    assert isinstance(tokenizer, Counting)
    broken = next(token for token in range(tokenizer.size) if tokenizer.decode([token]) == "\N{REPLACEMENT CHARACTER}")
    for ids in (tokenizer.encode("the cat 🤖 ") * 100, [broken] * 2000):
        tokenizer.decoded = 0
        pieces(tokenizer, ids)
        assert tokenizer.decoded < 60 * len(ids)
