"""How much a reply overlaps with its references: corpus BLEU and ROUGE-L."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

from sacrebleu.metrics.bleu import BLEU

JOINERS = "\u200c\u200d"  # between letters, or between the parts of an emoji
SKIN_TONES = range(0x1F3FB, 0x1F400)
FLAG_LETTERS = range(0x1F1E6, 0x1F200)  # two of them are a flag
EMOJI = range(0x1F000, 0x1FB00)
DINGBATS = range(0x2600, 0x27C0)
WITHOUT_SPACES = re.compile(
    "[\u0e01-\u0e4e\u0e81-\u0ecd\u0edc-\u0edf\u0f40-\u0fbc\u1000-\u1049\u104e-\u109f\u1780-\u17d3\u17dc-\u17dd"
    "\ua9e0-\ua9fe\uaa60-\uaa7f\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3041-\u30fa\u30fc-\u30ff"
    "\u3105-\u312f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
    "\U0001b000-\U0001b16f\U00020000-\U000323af]"
)
"""Characters of scripts without spaces between words: Thai, Lao, Tibetan, Burmese, Khmer, Han, kana, bopomofo."""


def corpus_bleu(replies: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """BLEU of all replies together, 0 to 100 (Papineni et al. 2002, "BLEU: a method for automatic evaluation").

    It is computed by sacrebleu with international tokenisation and exponential smoothing, the settings of the T5
    library; a letter of a script without spaces between words is a token, as in sacrebleu's tokeniser for Chinese.
    references: for every reply at least one text; their number may differ between replies.
    """
    most = max(map(len, references))
    columns: list[list[Any]] = [
        [separate_letters(each[n]) if n < len(each) else None for each in references] for n in range(most)
    ]
    score = BLEU(tokenize="intl", smooth_method="exp").corpus_score(list(map(separate_letters, replies)), columns)
    return float(score.score)


def rouge_l(replies: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Mean ROUGE-L F-measure, 0 to 1 (Lin 2004, "ROUGE: a package for automatic evaluation of summaries").

    Of several references the one with the highest value counts; see ``words_of`` for what is compared. On ASCII text
    the result is that of the library rouge-score, which splits words at every other letter.
    """
    best = [
        max(subsequence_overlap(words_of(reply), words_of(reference)) for reference in each)
        for reply, each in zip(replies, references, strict=True)
    ]
    return sum(best) / len(best)


def words_of(text: str) -> list[str]:
    """The words of a text: runs of letters and digits in lower case, without stemming.

    A letter of a script without spaces is a word, and so is an emoji. Vowel signs and accents belong to the letter
    before them.
    """
    found: list[str] = []
    last = ""  # the character before, if it belongs to a word
    for character in unicodedata.normalize("NFC", text.lower()):
        belongs = unicodedata.category(character)[0] == "M" or character in JOINERS
        if last and (belongs or _continues(last, found[-1], character)):
            found[-1] += character
        elif character.isalnum() or WITHOUT_SPACES.match(character) or _is_emoji(character):
            found.append(character)
        else:
            last = ""
            continue
        last = character
    return found


def _continues(last: str, word: str, character: str) -> bool:
    """Whether a character belongs to the word before it. last: the character before it."""
    if not word[0].isalnum() and not _is_emoji(word[0]):
        return False
    if _is_emoji(character):
        if ord(character) in FLAG_LETTERS:
            return len(word) == 1 and ord(word) in FLAG_LETTERS
        return _is_emoji(word[0]) and (last == JOINERS[1] or ord(character) in SKIN_TONES)
    return character.isalnum() and not (WITHOUT_SPACES.match(character) or WITHOUT_SPACES.match(word[0]))


def _is_emoji(character: str) -> bool:
    return ord(character) in EMOJI or ord(character) in DINGBATS


def separate_letters(text: str) -> str:
    """The text with spaces around every letter of a script without spaces; any other text as it is."""
    if not WITHOUT_SPACES.search(text):
        return text
    parts: list[str] = []
    separated = False  # whether the letter before needs a space after it
    for character in text:
        belongs = bool(parts) and (unicodedata.category(character)[0] == "M" or character in JOINERS)
        letter = not belongs and WITHOUT_SPACES.match(character) is not None
        parts.append(" " + character if letter or (separated and not belongs) else character)
        separated = letter or (separated and belongs)
    return "".join(parts)


def subsequence_overlap(reply: Sequence[str], reference: Sequence[str]) -> float:
    """F-measure of the longest common subsequence of words, 0 to 1; 0 where either is empty.

    Its length is computed with one bit a word of ``reply`` (Hyyrö 2004, "Bit-parallel LCS-length computation
    revisited"): bit i of ``row`` is 0 where the subsequence grows at word i.
    """
    if not reply or not reference:
        return 0.0
    places: dict[str, int] = {}
    for index, word in enumerate(reply):
        places[word] = places.get(word, 0) | (1 << index)
    every = (1 << len(reply)) - 1
    row = every
    for word in reference:
        hits = row & places.get(word, 0)
        row = ((row + hits) | (row - hits)) & every
    length = len(reply) - row.bit_count()
    return 2.0 * length / (len(reply) + len(reference))
