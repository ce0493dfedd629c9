"""How much of a reference a reply has: corpus BLEU and ROUGE-L."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sacrebleu.metrics.bleu import BLEU

WORD = re.compile(r"[^\W_]+")


def corpus_bleu(replies: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """BLEU of all replies together, 0 to 100 (Papineni et al. 2002), by sacrebleu: international tokenisation, exponential
    smoothing. These are the settings of the T5 library. references: of every reply at least one.
    """
    most = max(map(len, references))
    columns: list[list[Any]] = [[each[n] if n < len(each) else None for each in references] for n in range(most)]
    score = BLEU(tokenize="intl", smooth_method="exp").corpus_score(list(replies), columns)
    return float(score.score)


def rouge_l(replies: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Mean ROUGE-L F-measure, 0 to 1 (Lin 2004), of every reply with the reference it is nearest to.

    Words are runs of letters and digits in lower case, without stemming. On ASCII text that is the library rouge-score,
    which takes every other letter for a gap between words.
    """
    best = [
        max(subsequence_overlap(_words(reply), _words(reference)) for reference in each)
        for reply, each in zip(replies, references, strict=True)
    ]
    return sum(best) / len(best)


def _words(text: str) -> list[str]:
    return WORD.findall(text.lower())


def subsequence_overlap(reply: Sequence[str], reference: Sequence[str]) -> float:
    """F-measure of the longest common subsequence; 0 where either is empty.

    Its length by bits (Hyyrö 2004): bit i of ``row`` is 0 where the subsequence gets longer at word i of ``reply``.
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
