"""Loops and control text in replies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.report.reply_faults import has_control_text, has_loop

WORDS = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=40)


@pytest.mark.parametrize(
    "text",
    [
        "no " * 12,
        "I am sure. " * 4,
        "First this. " + "And then that, and so on. " * 4,
        "Yes: " + "1 2 " * 6,
        "私は猫です。" * 4,
    ],
)
def test_the_same_words_again_and_again_are_a_loop(text: str) -> None:
    assert has_loop(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "No, no, no, no!",
        "I am sure. " * 3,
        "-" * 200 + "|---|---|---|---|---|---|",
        "_|_|_|_|_|_|_|_|_|_|_|_|_|_|_|",
        "1. one\n2. two\n3. three\n4. four\n5. five",
        "The cat sat, the cat ran, the cat ate, the cat slept, the cat won, the cat lost.",
    ],
)
def test_other_texts_are_none(text: str) -> None:
    assert not has_loop(text)


@given(before=st.text(max_size=30), words=WORDS, times=st.integers(4, 9), after=st.text(max_size=30))
def test_any_sequence_of_up_to_forty_words_that_is_repeated_often_enough_is_found(
    before: str, words: list[str], times: int, after: str
) -> None:
    times = max(times, -(-12 // len(words)))
    assert has_loop(f"{before} {' '.join(words * times)} {after}")


@given(st.text())
def test_any_text_has_an_answer(text: str) -> None:
    assert has_loop(text) in (True, False)
    assert has_control_text(text) in (True, False)


@pytest.mark.parametrize(
    "text", ["Yes.<|prompter|>And?", "<|im_end|>", "a</s>b", "x\n### Instruction:\ny", "[/INST] ok", "<pad>"]
)
def test_control_text_is_found(text: str) -> None:
    assert has_control_text(text)


@pytest.mark.parametrize("text", ["a < b | c > d", "<b>bold</b>", "See ### Response: above", "### Steps", "<|>", "|x|"])
def test_ordinary_marks_are_no_control_text(text: str) -> None:
    assert not has_control_text(text)
