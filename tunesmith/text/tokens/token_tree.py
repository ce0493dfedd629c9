"""A tree of messages as tokens: what branches share is stored once."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int32]
Scores = NDArray[np.float32]

NO_REPLIES: Integers = np.zeros((0, 3), np.int32)
NO_SCORES: Scores = np.zeros(0, np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class TokenTree:
    """A rendered tree. T tokens, S segments, N spans.

    ids: [T]. segments: [S, 3] start, end, parent (-1 for none), depth-first; none is empty; a chain of only children is
    one segment, so the segments without a child are the ends of the threads.
    spans: [N, 5] start, end, source, message, threads, in order of start: tokens start..end-1 are targets of message
    ``message``; token ``start`` is predicted from the hidden state at ``source``, every other one from the token before
    it; ``threads`` root-to-leaf threads run through them.
    threads: how many root-to-leaf threads there are. cut: tokens that truncation took away.
    replies: [R, 3] message, group, rank, in order of message, of what the data rank: a group holds the replies to one
    message, which is its number; the rank of the best is the lowest. scores: [R] as the data give them, NaN for none.
    Both are empty unless ranked replies are what is trained; then every one of them has spans, and nothing else has.
    """

    ids: Integers
    segments: Integers
    spans: Integers
    threads: int
    cut: int = 0
    replies: Integers = field(default_factory=lambda: NO_REPLIES)
    scores: Scores = field(default_factory=lambda: NO_SCORES)

    def offsets(self) -> list[int]:
        """For every segment the position of its first token in the threads that run through it."""
        found: list[int] = []
        for _, _, parent in self.segments.tolist():
            above = int(self.segments[parent, 1] - self.segments[parent, 0]) + found[parent] if parent >= 0 else 0
            found.append(above)
        return found

    def positions(self) -> Integers:
        """[T] the position of every token in its thread: tokens of its ancestors plus its offset."""
        sizes = self.segments[:, 1] - self.segments[:, 0]
        shift = np.asarray(self.offsets(), np.int32) - self.segments[:, 0]
        return np.asarray(np.arange(len(self.ids), dtype=np.int32) + np.repeat(shift, sizes), np.int32)

    def ends(self) -> list[int]:
        """The segments that no other segment follows: one for every thread."""
        parents = set(self.segments[:, 2].tolist())
        return [index for index in range(len(self.segments)) if index not in parents]

    def thread(self, end: int) -> Integers:
        """The indices of the tokens from the root to the end of segment ``end``."""
        path: list[Integers] = []
        while end >= 0:
            start, stop, parent = self.segments[end].tolist()
            path.append(np.arange(start, stop, dtype=np.int32))
            end = parent
        return np.concatenate(path[::-1])

    def targets(self) -> Integers:
        """[N'] the indices of all target tokens, in order."""
        found = [np.arange(start, end, dtype=np.int32) for start, end, *_ in self.spans.tolist()]
        return np.concatenate(found) if found else np.zeros(0, np.int32)
