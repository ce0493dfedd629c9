"""BLEU is sacrebleu's with the settings of the T5 library; ROUGE-L agrees with the library rouge-score."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.evaluate import overlap
from tunesmith.evaluate.overlap import corpus_bleu, rouge_l, subsequence_overlap

# What rouge-score 0.1.2 says (RougeScorer(["rougeL"]), F-measure): reply, reference, value.
LIBRARY = (
    ("the cat sat on the mat", "the cat sat on a mat", 0.8333333333333334),
    ("Police killed the gunman.", "police kill the gunman", 0.75),
    ("the gunman kill police", "police kill the gunman", 0.5),
    ("a b c d e f g", "g f e d c b a", 0.14285714285714285),
    ("one two, three; four-five", "one three five", 0.7499999999999999),
    ("It's 3.5 kg", "it s 3 5 kg", 1.0),
    ("nothing in common", "wholly other words", 0.0),
    ("", "something", 0.0),
    ("- item one\n- item two\n- item three", "- item one\n- item three", 0.8),
    ("snake_case and CamelCase", "snake case camelcase", 0.8571428571428571),
)


@pytest.mark.parametrize(("reply", "reference", "expected"), LIBRARY)
def test_rouge_l_is_that_of_the_library(reply: str, reference: str, expected: float) -> None:
    assert rouge_l([reply], [[reference]]) == pytest.approx(expected)


def by_table(reply: Sequence[str], reference: Sequence[str]) -> int:
    """The length of the longest common subsequence as the textbook has it."""
    row = [0] * (len(reference) + 1)
    for word in reply:
        before = row[:]
        for index, other in enumerate(reference):
            row[index + 1] = before[index] + 1 if word == other else max(before[index + 1], row[index])
    return row[-1]


words = st.lists(st.sampled_from("abcd"), max_size=80)


@settings(max_examples=200, deadline=None)
@given(reply=words, reference=words)
def test_the_bits_find_the_subsequence_overlap_subsequence(reply: list[str], reference: list[str]) -> None:
    expected = 2.0 * by_table(reply, reference) / max(1, len(reply) + len(reference))
    assert subsequence_overlap(reply, reference) == pytest.approx(expected)


@pytest.mark.parametrize("planted", [lambda a, b: float(set(a) == set(b)), lambda a, b: len(set(a) & set(b)) / len(a)])
def test_a_measure_that_forgets_the_order_is_seen(planted: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlap, "subsequence_overlap", planted)
    assert rouge_l(["the gunman kill police"], [["police kill the gunman"]]) != pytest.approx(0.5)


def test_letters_of_all_languages_make_words() -> None:
    assert rouge_l(["Кошка сидит"], [["кошка спит"]]) == pytest.approx(0.5)


def test_the_nearest_of_several_references_counts() -> None:
    assert rouge_l(["a b", "c"], [["x", "a b"], ["d"]]) == pytest.approx(0.5)


def test_bleu_is_100_for_the_reference_and_near_0_for_something_else() -> None:
    references = ["The quick brown fox jumps over the dog.", "It rained all day in Lisbon, they said."]
    assert corpus_bleu(references, [[each] for each in references]) == pytest.approx(100.0)
    assert corpus_bleu(["Nothing here fits at all.", "Wrong!"], [[each] for each in references]) < 3.0


def test_bleu_is_that_of_the_corpus_with_international_tokens_and_exponential_smoothing() -> None:
    """By hand: 1-grams 4/5, 2-grams 2/4, 3-grams 1/3, 4-grams 0/2 smoothed to (1/2)/2; as long as the reference."""
    expected = 100 * (4 / 5 * 2 / 4 * 1 / 3 * 1 / 4) ** 0.25
    assert corpus_bleu(["a b c x e"], [["a b c d e"]]) == pytest.approx(expected)
    assert corpus_bleu(["Preço: 5 €!"], [["Preço : 5 € !"]]) == pytest.approx(100.0)


def test_replies_may_have_different_numbers_of_references() -> None:
    one = corpus_bleu(
        ["the cat sat on the mat", "a b c d"], [["the cat sat on a mat", "the cat sat on the mat"], ["a b c d"]]
    )
    assert one == pytest.approx(100.0)
    with_less = corpus_bleu(["the cat sat on the mat", "a b c d"], [["the cat sat on a mat"], ["a b c d"]])
    assert with_less < 90.0


def test_an_empty_reply_is_no_error() -> None:
    assert corpus_bleu([""], [["a b"]]) == 0.0
    assert rouge_l([""], [["a b"]]) == 0.0


WORDS = {
    "Chinese": ("我喜欢苹果。", ["我", "喜", "欢", "苹", "果"]),
    "Japanese with Latin letters": ("私はGPT2です", ["私", "は", "gpt2", "で", "す"]),
    "Thai with vowel signs": ("น้ำดี", ["น้", "ำ", "ดี"]),
    "Hindi": ("हिन्दी में", ["हिन्दी", "में"]),
    "Arabic with vowel marks": ("كِتَابٌ", ["كِتَابٌ"]),
    "Korean, which has spaces": ("안녕 세상", ["안녕", "세상"]),
    "decomposed accents": ("Cafe\u0301 au lait", ["café", "au", "lait"]),
    "emoji": ("ok 👍🏽 👩‍👩‍👧 🇵🇹🇪🇸❤️!", ["ok", "👍🏽", "👩‍👩‍👧", "🇵🇹", "🇪🇸", "❤️"]),
    "signs at the beginning": ("\u0301a", ["a"]),
    "underscores": ("snake_case", ["snake", "case"]),
}


@pytest.mark.parametrize(("text", "expected"), WORDS.values(), ids=WORDS)
def test_words_of_every_script_are_found(text: str, expected: list[str]) -> None:
    assert overlap.words_of(text) == expected


@given(st.text(alphabet=st.characters(max_codepoint=0x24F), max_size=40))
def test_latin_text_has_the_words_it_had(text: str) -> None:
    normal = unicodedata.normalize("NFC", text.lower())
    if not any(unicodedata.category(character)[0] == "M" for character in normal):
        assert overlap.words_of(text) == re.findall(r"[^\W_]+", normal)
    assert overlap.separate_letters(text) == text


@given(st.text(max_size=30))
def test_letters_are_separated_by_spaces_alone(text: str) -> None:
    assert overlap.separate_letters(text).replace(" ", "") == text.replace(" ", "")


def test_text_without_spaces_is_compared_letter_by_letter() -> None:
    reply, reference = "我喜欢红苹果", "我喜欢绿苹果"
    assert rouge_l([reply], [[reference]]) == pytest.approx(5 / 6)
    assert 20 < corpus_bleu([reply], [[reference]]) < 60
    assert corpus_bleu([reference], [[reference]]) == pytest.approx(100.0)
    assert rouge_l(["สวัสดี"], [["สวัสดิ์"]]) > 0.5
    assert rouge_l(["👍"], [["👎"]]) == 0.0
    assert rouge_l(["किताब"], [["कताब"]]) == 0.0  # a vowel sign makes another word
