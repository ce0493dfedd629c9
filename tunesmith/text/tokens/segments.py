"""Laying out the tokens of messages so that what branches share is stored once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile

import numpy as np

from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.text.tree import Tree


@dataclass(slots=True)
class _Target:
    """Tokens start..end-1 of a segment are targets of ``message``; ``threads`` threads run through them."""

    start: int
    end: int
    message: int
    threads: int


@dataclass(slots=True)
class _Segment:
    """A chain of only children. lead: how many tokens at its beginning are given, before the first that is produced."""

    parent: int
    ids: list[int] = field(default_factory=list)
    lead: int = 0
    targets: list[_Target] = field(default_factory=list)
    children: list[int] = field(default_factory=list)

    def give(self, ids: Sequence[int]) -> None:
        if self.lead == len(self.ids):
            self.lead += len(ids)
        self.ids.extend(ids)


@dataclass(frozen=True, slots=True)
class MessageTokens:
    """The tokens of one message.

    foretold: how many tokens at the beginning of ``given`` are targets of the message before.
    trained: whether ``produced`` (and what this message foretells) are targets. whole: whether all of ``given`` is, too,
    but for its first ``opening`` tokens, which every conversation begins with.
    """

    given: Sequence[int]
    produced: Sequence[int]
    predicted_by_previous: int
    trained: bool
    whole: bool = False
    opening: int = 0


def assemble_tree(tree: Tree, tokens: Sequence[MessageTokens]) -> TokenTree | None:
    """Join the tokens of every message of ``tree``; None if a thread would end without a token of its own.

    A given token that siblings share and that all of them train counts as a target of the first of them.
    """
    segments, threads = _chains(tree, tokens)
    for segment in reversed(segments):
        if len(segment.children) > 1:
            _share_beginning(segment, [segments[child] for child in segment.children])
    if any(not segment.ids and not segment.children for segment in segments):
        return None
    return _lay_out(segments, threads)


def _chains(tree: Tree, tokens: Sequence[MessageTokens]) -> tuple[list[_Segment], int]:
    """The segments in depth-first order and the number of threads."""
    count = len(tree.messages)
    replies, threads = [0] * count, [0] * count
    for index in range(count - 1, -1, -1):
        threads[index] = threads[index] or 1
        parent = tree.parents[index]
        if parent >= 0:
            replies[parent] += 1
            threads[parent] += threads[index]
    segments: list[_Segment] = []
    home = [0] * count
    for index, parent in enumerate(tree.parents):
        if parent >= 0 and replies[parent] == 1:
            home[index] = home[parent]
        else:
            home[index] = len(segments)
            segments.append(_Segment(home[parent] if parent >= 0 else -1))
            if parent >= 0:
                segments[home[parent]].children.append(home[index])
        before = tokens[parent] if parent >= 0 else None
        _append(segments[home[index]], tokens[index], index, before, parent, threads[index])
    return segments, threads[0]


def _append(
    segment: _Segment, tokens: MessageTokens, message: int, before: MessageTokens | None, parent: int, threads: int
) -> None:
    """Add the tokens of a message to its segment, and what of them is trained."""
    start = len(segment.ids)
    segment.give(tokens.given)
    middle = len(segment.ids)
    segment.ids.extend(tokens.produced)
    if tokens.whole and middle > start + tokens.opening and tokens.trained:
        segment.targets.append(_Target(start + tokens.opening, middle, message, threads))
    elif tokens.predicted_by_previous and not tokens.whole and before is not None and before.trained:
        segment.targets.append(_Target(start, start + tokens.predicted_by_previous, parent, threads))
    if tokens.produced and tokens.trained:
        segment.targets.append(_Target(middle, len(segment.ids), message, threads))


def _share_beginning(segment: _Segment, children: Sequence[_Segment]) -> None:
    """Move the longest common beginning of what the children are given to the end of their parent.

    Every child keeps a token of its own. A token that is a target in one child only is not shared, nor is what follows.
    """
    limit = min(min(child.lead, len(child.ids) - 1) for child in children)
    if limit <= 0:
        return
    columns = zip(*(zip(child.ids[:limit], _trained(child, limit), strict=True) for child in children), strict=True)
    count = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
    if not count:
        return
    start = len(segment.ids)
    threads = [child.targets[0].threads if child.targets else 0 for child in children]
    for target in children[0].targets:
        if target.start < count:
            end = start + min(target.end, count)
            segment.targets.append(_Target(start + target.start, end, target.message, sum(threads)))
    segment.give(children[0].ids[:count])
    for child in children:
        del child.ids[:count]
        child.lead -= count
        for target in child.targets:
            target.start, target.end = max(target.start - count, 0), target.end - count
        child.targets = [target for target in child.targets if target.end > target.start]


def _trained(segment: _Segment, limit: int) -> list[bool]:
    """Whether each of the first ``limit`` tokens of a segment is a target."""
    found = [False] * limit
    for target in segment.targets:
        if target.start >= limit:
            break
        found[target.start : target.end] = [True] * (min(target.end, limit) - target.start)
    return found


def _lay_out(segments: Sequence[_Segment], threads: int) -> TokenTree:
    """Number the tokens of the segments; one without tokens disappears and its children move to its parent."""
    ids: list[int] = []
    table: list[tuple[int, int, int]] = []
    spans: list[tuple[int, int, int, int, int]] = []
    places: list[int] = []
    for segment in segments:
        parent = places[segment.parent] if segment.parent >= 0 else -1
        if not segment.ids:
            places.append(parent)
            continue
        start = len(ids)
        for target in segment.targets:
            first, last = start + target.start, start + target.end
            source = first - 1 if target.start else table[parent][1] - 1 if parent >= 0 else -1
            if source < 0:  # nothing stands before the first token of a thread, so it cannot be predicted
                source, first = first, first + 1
            if last > first:
                spans.append((first, last, source, target.message, target.threads))
        ids.extend(segment.ids)
        places.append(len(table))
        table.append((start, len(ids), parent))
    return TokenTree(
        ids=np.array(ids, np.int32),
        segments=np.array(table, np.int32).reshape(-1, 3),
        spans=np.array(spans, np.int32).reshape(-1, 5),
        threads=threads,
    )
