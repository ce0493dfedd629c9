"""Near duplicates and shared runs of words: what is planted is found, and nothing else."""

from __future__ import annotations

import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import REPOSITORY
from tunesmith.data.dataset.similarity import NearDuplicates, Ngrams, Signature, shingles, signature, similarity, words

VOCABULARY = [f"word{number}" for number in range(2000)]
texts = st.text(max_size=200) | st.lists(st.sampled_from(VOCABULARY[:30]), max_size=60).map(" ".join)


def passage(seed: int, length: int = 120) -> list[str]:
    return random.Random(seed).choices(VOCABULARY, k=length)


def changed(found: list[str], places: int, seed: int = 0) -> list[str]:
    """The same with other words in some places that lie close together."""
    start = random.Random(seed).randrange(len(found) - places)
    return [*found[:start], *(f"other{number}" for number in range(places)), *found[start + places :]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, WORLD!", ["hello", "world"]),
        ("Straße \ufb01x \uff21\uff22", ["strasse", "fix", "ab"]),
        ("5 - 3 = 2, 5-3, well-known", ["5", "-", "3", "=", "2", "5", "-", "3", "well", "known"]),
        ("don't **stop** it_now", ["don", "t", "stop", "it", "now"]),
        ("\u6211\u7231\u4f60 ok", ["\u6211", "\u7231", "\u4f60", "ok"]),
        ("\U0001f44d + \U0001f44e", ["\U0001f44d", "+", "\U0001f44e"]),
        (" .,;\n", []),
    ],
)
def test_words_are_what_is_said(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_shingles_are_runs_of_words() -> None:
    assert shingles("a b c d", 3) == {"a b c", "b c d"}
    assert shingles("A b, c.", 5) == {"a b c"}
    assert shingles("a b a b a", 2) == {"a b", "b a"}
    assert shingles("?!") == {"?!"} != shingles("!!")
    assert shingles("") == {""}


def test_what_differs_in_signs_of_arithmetic_is_different() -> None:
    assert similarity(signature("What is 7 + 5?"), signature("What is 7 - 5?")) < 0.3


@settings(max_examples=100, deadline=None)
@given(st.lists(texts, max_size=12), texts)
def test_identical_texts_are_always_found(others: list[str], text: str) -> None:
    for threshold in (0.3, 0.8, 1.0):
        near = NearDuplicates(threshold)
        kept = {
            str(index): other for index, other in enumerate(others) if near.add(str(index), signature(other)) is None
        }
        earlier = near.add("text", signature(text))
        again = near.add("again", signature(text))
        assert again == (earlier or "text")
        assert len(near) == len(kept) + (earlier is None)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(VOCABULARY[:30]), min_size=6, max_size=40), st.integers(1, 6))
def test_a_signature_depends_on_the_set_of_shingles_alone(found: list[str], size: int) -> None:
    """However often a text is repeated, wherever the repetition begins, and whatever stands between the words."""
    thrice, more = signature(" ".join(found * 3), size), signature(", ".join(found * 4).upper(), size)
    turned = signature("\n".join((found[2:] + found[:2]) * 3), size)
    assert (thrice == more).all()
    assert (thrice == turned).all()
    assert (thrice.shape, thrice.dtype) == ((128,), np.uint32)


def test_the_order_of_paragraphs_hardly_matters() -> None:
    first, second = passage(1), passage(2)
    one, other = signature(" ".join(first + second)), signature(" ".join(second + first))
    assert similarity(one, other) > 0.85


def test_a_signature_is_the_same_in_another_process() -> None:
    code = (
        "from tunesmith.data.dataset.similarity import signature\n"
        "print(signature('the same text in every process, please').tolist())"
    )
    told = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == str(signature("the same text in every process, please").tolist())


def test_signatures_never_change() -> None:
    """Written down once: a release of the library that changes them must be noticed."""
    assert signature("one two three four five six")[:4].tolist() == [
        984630812,
        833933089,
        1167325145,
        1194518338,
    ]


def test_a_long_text_is_as_similar_as_it_should_be() -> None:
    found = passage(3, 20_000)
    half = found[:15_000]
    assert abs(similarity(signature(" ".join(found)), signature(" ".join(half))) - 0.75) < 0.12


def test_planted_near_duplicates_are_found_and_nothing_else() -> None:
    near = NearDuplicates(0.8)
    passages = [passage(seed) for seed in range(200)]
    assert all(near.add(str(seed), signature(" ".join(found))) is None for seed, found in enumerate(passages))
    found = [near.find(signature(" ".join(changed(found, 4)))) for found in passages]  # similarity 0.87
    assert sum(name == str(seed) for seed, name in enumerate(found)) >= 190
    found = [near.find(signature(" ".join(changed(found, 60)))) for found in passages]  # similarity 0.3
    assert found == [None] * 200
    assert all(near.find(signature(" ".join(passage(seed)))) is None for seed in range(1000, 1200))


def test_the_first_that_is_alike_is_named_and_later_ones_are_not_kept() -> None:
    near = NearDuplicates(0.5)
    one, other = passage(0), changed(passage(0), 10)
    assert near.add("one", signature(" ".join(one))) is None
    assert near.add("other", signature(" ".join(other))) == "one"
    assert near.add("third", signature(" ".join(other))) == "one"
    assert len(near) == 1


def test_all_parts_must_be_alike() -> None:
    def parts(whole: list[str], reply: list[str]) -> Signature:
        return np.stack([signature(" ".join(whole + reply)), signature(" ".join(reply))])

    near = NearDuplicates(0.8)
    assert near.add("one", parts(passage(1), ["in", "1815"])) is None
    assert near.add("other reply", parts(passage(1), ["at", "Waterloo"])) is None
    assert near.add("other passage", parts(passage(2), ["in", "1815"])) is None
    assert near.add("again", parts(changed(passage(1), 3), ["at", "Waterloo"])) == "other reply"


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.1, float("nan")])
def test_impossible_thresholds_are_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold"):
        NearDuplicates(threshold)


def test_a_shared_run_of_words_is_found() -> None:
    ngrams = Ngrams()
    question = " ".join(passage(5, 40))
    assert ngrams.add("arc/5", question)
    assert ngrams.add("arc/6", " ".join(passage(6, 40)))
    inside = passage(7, 30) + passage(5, 40)[10:23] + passage(8, 30)
    assert ngrams.matches(" ".join(inside)) == ("arc/5",)
    assert ngrams.matches(", ".join(inside).upper()) == ("arc/5",)
    one_less = passage(7, 30) + passage(5, 40)[10:22] + passage(8, 30)
    assert ngrams.matches(" ".join(one_less)) == ()
    assert ngrams.matches(question + " " + " ".join(passage(6, 40))) == ("arc/5", "arc/6")
    assert ngrams.matches("") == ()


def test_short_texts_are_looked_for_as_a_whole_or_not_at_all() -> None:
    ngrams = Ngrams()
    assert not ngrams.add("short", "yes, of course it is")
    assert ngrams.add("one", "who was the first king of all england")
    assert ngrams.add("two", "Who was the first king of all England?")
    assert ngrams.matches("tell me: who was the first king of all England, please") == ("one", "two")
    assert ngrams.matches("who was the first king of all france") == ()
    assert ngrams.matches("yes, of course it is") == ()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from("abcd"), max_size=30), st.lists(st.sampled_from("abcd"), max_size=30))
def test_runs_are_found_as_by_trying_all(one: list[str], other: list[str]) -> None:
    ngrams = Ngrams(size=4, shortest=2)
    kept = ngrams.add("one", " ".join(one))
    assert kept == (len(one) >= 2)
    length = min(4, len(one))
    runs = {tuple(one[start : start + length]) for start in range(len(one) - length + 1)} if kept else set()
    expected = any(tuple(other[start : start + length]) in runs for start in range(len(other) - length + 1))
    assert ngrams.matches(" ".join(other)) == (("one",) if expected else ())


@pytest.mark.parametrize(("size", "shortest"), [(0, 0), (5, 6), (5, 0)])
def test_impossible_runs_are_refused(size: int, shortest: int) -> None:
    with pytest.raises(ValueError, match="runs of"):
        Ngrams(size, shortest)
