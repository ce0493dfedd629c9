"""Faults of a reply that its text alone shows: the same words again and again, and text of control tokens."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

LONGEST_PERIOD = 40
"""Words of the longest sequence whose repetition is a loop."""
FEWEST_REPEATS = 4
"""How often a sequence follows itself, the first time included."""
FEWEST_WORDS = 12
"""Words of a loop, so that `no, no, no, no` is none."""

_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_WORDS = re.compile(f"[{_CJK}]|[^\\W_{_CJK}]+")  # characters of scripts that are written without spaces are words
_CONTROL = re.compile(r"<\|[A-Za-z_]{2,24}\|>|</?s>|<pad>|\[/?INST\]|^### (?:Instruction|Response|Input|End)\b", re.M)


def words_of(text: str) -> list[str]:
    """The words of a text, in small letters. Each character of a script that is written without spaces is one."""
    return _WORDS.findall(text.lower())


def has_loop(text: str) -> bool:
    """Whether a sequence of words is repeated at once, four times or more, over twelve words or more."""
    numbers: dict[str, int] = {}
    words = [numbers.setdefault(word, len(numbers)) for word in words_of(text)]
    triples = Counter(zip(words, words[1:], words[2:], strict=False))
    if max(triples.values(), default=0) < FEWEST_REPEATS:
        return False  # every loop has a triple of words that often, and few other texts do
    return any(_repeats(words, period) for period in range(1, min(LONGEST_PERIOD, len(words) // FEWEST_REPEATS) + 1))


def _repeats(words: Sequence[int], period: int) -> bool:
    """Whether the words repeat with this period for long enough."""
    needed = max(FEWEST_WORDS, FEWEST_REPEATS * period) - period
    run = 0
    for earlier, later in zip(words, words[period:], strict=False):
        run = run + 1 if earlier == later else 0
        if run >= needed:
            return True
    return False


def has_control_text(text: str) -> bool:
    """Whether a reply has text that looks like a control token of a prompt format, such as ``<|prompter|>``."""
    return _CONTROL.search(text) is not None
