"""How much a reply overlaps with its references: corpus BLEU and ROUGE-L."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sacrebleu.metrics.bleu import BLEU

WORD = re.compile(r"[^\W_]+")


def corpus_bleu(replies: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """BLEU of all replies together, 0 to 100 (Papineni et al. 2002, "BLEU: a method for automatic evaluation").

    It is computed by sacrebleu with international tokenisation and exponential smoothing, the settings of the T5
    library.
    references: for every reply at least one text; their number may differ between replies.
    """
    most = max(map(len, references))
    columns: list[list[Any]] = [[each[n] if n < len(each) else None for each in references] for n in range(most)]
    score = BLEU(tokenize="intl", smooth_method="exp").corpus_score(list(replies), columns)
    return float(score.score)


def rouge_l(replies: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Mean ROUGE-L F-measure, 0 to 1 (Lin 2004, "ROUGE: a package for automatic evaluation of summaries").

    Of several references the one with the highest value counts. Words are runs of letters and digits in lower case,
    without stemming. On ASCII text the result is that of the library rouge-score, which splits words at every other
    letter.
    """
    best = [
        max(subsequence_overlap(_words(reply), _words(reference)) for reference in each)
        for reply, each in zip(replies, references, strict=True)
    ]
    return sum(best) / len(best)


def _words(text: str) -> list[str]:
    return WORD.findall(text.lower())


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
