"""Generated preference pairs with the lengths of UltraFeedback."""

from __future__ import annotations

import random
from dataclasses import dataclass

from benchmarks.dolly_like import draw_length, length_at, writer

# Quantiles of the lengths in Pythia tokens at ``dolly_like.SHARES``, measured on 400 pairs of the binarized set.
PROMPT = (5, 10, 13, 21, 37, 66, 93, 126, 172, 287, 455, 597, 872, 1072, 1340)
CHOSEN = (1, 8, 15, 29, 55, 102, 189, 312, 425, 535, 661, 760, 879, 1024, 1090)
REJECTED = (1, 9, 18, 41, 71, 113, 165, 257, 334, 434, 571, 694, 888, 943, 1022)
SAME_QUANTILE = 0.5  # share of the pairs whose replies have the same quantile: the lengths have a correlation of 0.48
LONGEST_PROMPT = 960  # longer ones are drawn again: truncation at 1,024 tokens would leave nothing of their replies


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt and two replies, in the fields of the reader ``preference-text``."""

    prompt: str
    chosen: str
    rejected: str


def generate_pairs(count: int, seed: int = 7) -> list[Pair]:
    """``count`` pairs of made-up words."""
    draw = random.Random(seed)
    write = writer(draw)
    found = []
    while len(found) < count:
        length, share = draw_length(draw, PROMPT), draw.random()
        other = share if draw.random() < SAME_QUANTILE else draw.random()
        if length > LONGEST_PROMPT:
            continue
        pair = Pair(write(length), write(length_at(share, CHOSEN)), write(length_at(other, REJECTED)))
        if pair.chosen != pair.rejected:
            found.append(pair)
    return found
