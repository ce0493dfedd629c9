"""What texts have in common: MinHash signatures, near duplicates, and runs of words shared with evaluation texts."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from datasketch import MinHash, MinHashLSH

Signature = npt.NDArray[np.uint32]

PERMUTATIONS = 128  # the estimate of a similarity of 0.8 has a standard deviation of 0.035
SEED = 1
SCHEME = "affine32"
SHINGLE = 5  # words
NGRAM = 13  # words; the length that Brown et al. (2020, appendix C) use for contamination
SHORTEST = 8  # words; the least they look for
AT_ONCE = 4096  # shingles; bounds the memory that a signature needs
RECALL = 0.98  # the least chance that a pair at the threshold becomes a candidate

# Scripts that are written without spaces: every character counts as a word.
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
SIGNS = r".,;:!?'\"`()\[\]{}_*#\-\u00a1\u00a7\u00ab\u00b6\u00b7\u00bb\u00bf\u2010-\u2027\u2030-\u205e\u3000-\u303f"
WORD = re.compile(
    rf"[{UNSPACED}]|[^\W_{UNSPACED}]+"
    rf"|[^\w\s{SIGNS}]"  # a symbol (plus, per cent, an emoji) says something, a comma does not
    r"|(?<![^\W\d_])-|-(?![^\W\d_])"  # a minus, or a dash, but not a hyphen
)


def words(text: str) -> list[str]:
    """The words of a text (Unicode NFKC, case folded): runs of letters and digits, single symbols, no punctuation.

    In scripts that are written without spaces every character is a word.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return WORD.findall(folded)


def shingles(text: str, size: int = SHINGLE) -> set[str]:
    """Every run of ``size`` words, once; of a shorter text all its words as one, of one without words the text itself."""
    found = words(text)
    if len(found) <= size:
        return {" ".join(found) or text}
    return {" ".join(found[start : start + size]) for start in range(len(found) - size + 1)}


@lru_cache(maxsize=1)
def _blank() -> MinHash:
    """An empty sketch; the others share its random numbers."""
    return MinHash(num_perm=PERMUTATIONS, seed=SEED, scheme=SCHEME)


def signature(text: str, size: int = SHINGLE) -> Signature:
    """MinHash (Broder 1997) of the shingles of a text, uint32 [128]; the same in every process and on every machine."""
    sketch = _sketch(None)
    found = [shingle.encode("utf-8", "surrogatepass") for shingle in shingles(text, size)]
    for start in range(0, len(found), AT_ONCE):
        sketch.update_batch(found[start : start + AT_ONCE])
    return np.asarray(sketch.hashvalues, dtype=np.uint32)


def _sketch(values: Signature | None) -> MinHash:
    blank = _blank()
    kept = blank.hashvalues if values is None else values
    return MinHash(seed=SEED, scheme=SCHEME, hashvalues=kept, permutations=blank.permutations)


def _bands(threshold: float) -> tuple[int, int]:
    """(bands, rows in each) of locality sensitive hashing: as many rows, so as few false candidates, as ``RECALL`` allows.

    Two texts of similarity s share a band with probability 1 - (1 - s**rows)**bands.
    """
    rows = max(
        rows
        for rows in range(1, PERMUTATIONS // 2 + 1)
        if rows == 1 or 1 - (1 - threshold**rows) ** (PERMUTATIONS // rows) >= RECALL
    )
    return PERMUTATIONS // rows, rows


def similarity(one: Signature, other: Signature) -> float:
    """Estimated Jaccard similarity of two sets of shingles, 0 to 1; with several parts that of the least similar ones."""
    return float(np.min(np.mean(one == other, axis=-1)))


class NearDuplicates:
    """Texts by their signatures, to find those that are alike.

    threshold: the least estimated Jaccard similarity that counts, above 0 and at most 1. Candidates come from locality
    sensitive hashing (MinHash LSH), which may miss a pair close to the threshold (one in 50); identical texts are never missed.
    A text may have several parts, uint32 [parts, 128] with the whole text first: then all of them must be alike.
    Needs some 5 kB a text.
    """

    def __init__(self, threshold: float) -> None:
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold {threshold} is not above 0 and at most 1")
        self.threshold = threshold
        self._index = MinHashLSH(num_perm=PERMUTATIONS, params=_bands(threshold))
        self._keys: list[str] = []
        self._signatures: list[Signature] = []

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, given: Signature) -> str | None:
        """The key of the first text that was added and is alike, or None."""
        candidates = self._index.query(_sketch(np.atleast_2d(given)[0]))
        alike = [place for place in candidates if similarity(self._signatures[place], given) >= self.threshold]
        return self._keys[min(alike)] if alike else None

    def add(self, key: str, given: Signature) -> str | None:
        """The same as ``find``; a text that is like none before it is added under its key."""
        earlier = self.find(given)
        if earlier is None:
            self._index.insert(len(self._keys), _sketch(np.atleast_2d(given)[0]))
            self._keys.append(key)
            self._signatures.append(given)
        return earlier


class Ngrams:
    """Which of some texts (those of an evaluation) share a run of ``size`` words with another text.

    A text of fewer words is looked for as a whole; one of fewer than ``shortest`` words says too little and is left out.
    """

    def __init__(self, size: int = NGRAM, shortest: int = SHORTEST) -> None:
        if not 0 < shortest <= size:
            raise ValueError(f"runs of {size} words, at least {shortest}: give 0 < shortest <= size")
        self.size, self.shortest = size, shortest
        self._names: dict[int, dict[bytes, set[str]]] = defaultdict(lambda: defaultdict(set))  # by length and run

    def add(self, name: str, text: str) -> bool:
        """Take in a text; several may have one name. False if it is too short to be looked for."""
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
