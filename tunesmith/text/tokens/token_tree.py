"""A tree of messages as tokens, in which what branches share is stored once."""

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
    """A rendered tree of T tokens, S segments, N spans of targets and R ranked replies.

    ids: int32 [T], token ids.
    segments: int32 [S, 3], start, end, parent (-1 for the root), in depth-first order. None is empty. A chain of only
        children is one segment, so the segments without a child are the ends of the threads.
    spans: int32 [N, 5], start, end, source, message, threads, in order of start. The tokens start..end-1 are targets of
        message ``message``. Token ``start`` is predicted from the hidden state at token ``source``, every other token
        from its predecessor. ``threads`` root-to-leaf threads contain them.
    threads: the number of root-to-leaf threads.
    cut: the number of tokens that truncation removed.
    replies: int32 [R, 3], message, group, rank, in order of message. A group is the set of replies to one message and
        is numbered by it; a lower rank is better. Empty unless the targets are ``ranked``; then every reply has spans,
        and no other message has.
    scores: float32 [R], as in the data; NaN where they have none. Empty like ``replies``.
    """

    ids: Integers
    segments: Integers
    spans: Integers
    threads: int
    cut: int = 0
    replies: Integers = field(default_factory=lambda: NO_REPLIES)
    scores: Scores = field(default_factory=lambda: NO_SCORES)

    def offsets(self) -> list[int]:
        """Return for every segment the position of its first token in the threads that contain it."""
        found: list[int] = []
        for _, _, parent in self.segments.tolist():
            above = int(self.segments[parent, 1] - self.segments[parent, 0]) + found[parent] if parent >= 0 else 0
            found.append(above)
        return found

    def positions(self) -> Integers:
        """Return int32 [T], the position of every token in its thread: the number of tokens before it there."""
        sizes = self.segments[:, 1] - self.segments[:, 0]
        shift = np.asarray(self.offsets(), np.int32) - self.segments[:, 0]
        return np.asarray(np.arange(len(self.ids), dtype=np.int32) + np.repeat(shift, sizes), np.int32)

    def ends(self) -> list[int]:
        """Return the segments without a child: one for every thread."""
        parents = set(self.segments[:, 2].tolist())
        return [index for index in range(len(self.segments)) if index not in parents]

    def thread(self, end: int) -> Integers:
        """Return int32 [L], the indices of the tokens from the root to the end of segment ``end``."""
        path: list[Integers] = []
        while end >= 0:
            start, stop, parent = self.segments[end].tolist()
            path.append(np.arange(start, stop, dtype=np.int32))
            end = parent
        return np.concatenate(path[::-1])

    def targets(self) -> Integers:
        """Return the indices of all target tokens, int32, in order."""
        found = [np.arange(start, end, dtype=np.int32) for start, end, *_ in self.spans.tolist()]
        return np.concatenate(found) if found else np.zeros(0, np.int32)
