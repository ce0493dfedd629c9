"""Similarity of texts: MinHash signatures, near duplicates, and runs of words shared with evaluation texts.

``datasketch`` is imported where it is used: it loads scipy, which few runs need.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from datasketch import MinHash

Signature = npt.NDArray[np.uint32]

PERMUTATIONS = 128  # the estimate of a similarity of 0.8 has a standard deviation of 0.035
SEED = 1
SCHEME = "affine32"
SHINGLE = 5  # words
NGRAM = 13  # words; the length that Brown et al. (2020, appendix C) use for contamination
SHORTEST = 8  # words; the shortest runs of that paper
AT_ONCE = 4096  # shingles; bounds the memory that a signature needs
RECALL = 0.98  # the least chance that a pair at the threshold becomes a candidate

# Scripts that are written without spaces: every character counts as a word.
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
SIGNS = r".,;:!?'\"`()\[\]{}_*#\-\u00a1\u00a7\u00ab\u00b6\u00b7\u00bb\u00bf\u2010-\u2027\u2030-\u205e\u3000-\u303f"
WORD = re.compile(
    rf"[{UNSPACED}]|[^\W_{UNSPACED}]+"
    rf"|[^\w\s{SIGNS}]"  # a symbol (plus, per cent, an emoji) has a meaning, a comma has not
    r"|(?<![^\W\d_])-|-(?![^\W\d_])"  # a minus, or a dash, but not a hyphen
)


def words(text: str) -> list[str]:
    """The words of a text (Unicode NFKC, case folded): runs of letters and digits, single symbols, no punctuation.

    In scripts that are written without spaces every character is a word.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return WORD.findall(folded)


def shingles(text: str, size: int = SHINGLE) -> set[str]:
    """The set of all runs of ``size`` words; a shorter text is one run, and so is one without words."""
    found = words(text)
    if len(found) <= size:
        return {" ".join(found) or text}
    return {" ".join(found[start : start + size]) for start in range(len(found) - size + 1)}


@lru_cache(maxsize=1)
def _empty_sketch() -> MinHash:
    """A sketch of no shingles; all others share its random numbers."""
    from datasketch import MinHash

    return MinHash(num_perm=PERMUTATIONS, seed=SEED, scheme=SCHEME)


def signature(text: str, size: int = SHINGLE) -> Signature:
    """MinHash (Broder 1997) of the shingles of a text, uint32 [128]; the same in every process and on every machine."""
    sketch = _sketch(_empty_sketch().hashvalues)
    found = [shingle.encode("utf-8", "surrogatepass") for shingle in shingles(text, size)]
    for start in range(0, len(found), AT_ONCE):
        sketch.update_batch(found[start : start + AT_ONCE])
    return np.asarray(sketch.hashvalues, dtype=np.uint32)


def _sketch(values: Signature) -> MinHash:
    """The sketch with these hash values."""
    from datasketch import MinHash

    permutations = _empty_sketch().permutations
    return MinHash(seed=SEED, scheme=SCHEME, hashvalues=values, permutations=permutations)


def _bands(threshold: float) -> tuple[int, int]:
    """(bands, rows in each) of locality-sensitive hashing, with the fewest false candidates that ``RECALL`` allows.

    Two texts of similarity s share a band with probability 1 - (1 - s**rows)**bands.
    """
    rows = max(
        rows
        for rows in range(1, PERMUTATIONS // 2 + 1)
        if rows == 1 or 1 - (1 - threshold**rows) ** (PERMUTATIONS // rows) >= RECALL
    )
    return PERMUTATIONS // rows, rows


def similarity(one: Signature, other: Signature) -> float:
    """Estimated Jaccard similarity of two sets of shingles, 0 to 1; of several parts, the least.

    one, other: uint32 [128] or [parts, 128].
    """
    return float(np.min(np.mean(one == other, axis=-1)))


class NearDuplicates:
    """Texts by their signatures, to find near duplicates.

    threshold: the least estimated Jaccard similarity of a near duplicate, above 0 and at most 1.

    Candidates are found by locality-sensitive hashing (MinHash LSH), which may miss two texts with a similarity close
    to the threshold (one in 50); identical texts are never missed. A text may have several parts, uint32 [parts, 128]
    with the whole text first: then all of them must be similar. Needs some 5 kB a text.
    """

    def __init__(self, threshold: float) -> None:
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold {threshold} is not above 0 and at most 1")
        self.threshold = threshold
        from datasketch import MinHashLSH

        self._index = MinHashLSH(num_perm=PERMUTATIONS, params=_bands(threshold))
        self._keys: list[str] = []
        self._signatures: list[Signature] = []

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, text: Signature) -> str | None:
        """The key of the first text that was added and is similar, or None.

        text: signature, uint32 [128] or [parts, 128].
        """
        candidates = self._index.query(_sketch(np.atleast_2d(text)[0]))
        similar = [index for index in candidates if similarity(self._signatures[index], text) >= self.threshold]
        return self._keys[min(similar)] if similar else None

    def add(self, key: str, text: Signature) -> str | None:
        """The same as ``find``; a text that is similar to none is added under its key."""
        earlier = self.find(text)
        if earlier is None:
            self._index.insert(len(self._keys), _sketch(np.atleast_2d(text)[0]))
            self._keys.append(key)
            self._signatures.append(text)
        return earlier


class Ngrams:
    """Texts by their runs of words, to find those that share one with another text.

    size: words of a run. A text of fewer words is one run.
    shortest: a text of fewer words is left out.
    """

    def __init__(self, size: int = NGRAM, shortest: int = SHORTEST) -> None:
        if not 0 < shortest <= size:
            raise ValueError(f"runs of {size} words, at least {shortest}: give 0 < shortest <= size")
        self.size, self.shortest = size, shortest
        self._names: dict[int, dict[bytes, set[str]]] = defaultdict(lambda: defaultdict(set))  # by length and run

    def add(self, name: str, text: str) -> bool:
        """Add a text; several may have the same name. Returns whether it is long enough."""
        found = words(text)
        if len(found) < self.shortest:
            return False
        length = min(self.size, len(found))
        for run in _runs(found, length):
            self._names[length][run].add(name)
        return True

    def matches(self, text: str) -> tuple[str, ...]:
        """The names of the texts that share a run with this one, sorted."""
        found, names = words(text), set[str]()
        for length, known in self._names.items():
            for run in _runs(found, length):
                names |= known.get(run, set())
        return tuple(sorted(names))


def _runs(found: list[str], length: int) -> Iterable[bytes]:
    """A digest of every run of ``length`` words."""
    for start in range(len(found) - length + 1):
        text = " ".join(found[start : start + length])
        yield hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).digest()
