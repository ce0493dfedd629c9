"""Joins the tokens of messages into a token tree, in which what branches share is stored once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile

import numpy as np

from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.text.tree import Tree


@dataclass(frozen=True, slots=True)
class MessageTokens:
    """The tokens of one message.

    given, produced: token ids; see ``Split``.
    predicted_by_previous: how many tokens at the beginning of ``given`` are targets of the message before.
    trained: whether ``produced`` is a target, and so are the tokens of the next message that this one predicts.
    train_given: whether ``given`` is a target too, if ``trained``.
    opening: how many tokens at the beginning of ``given`` are no targets, because every conversation begins with them.
    """

    given: Sequence[int]
    produced: Sequence[int]
    predicted_by_previous: int
    trained: bool
    train_given: bool = False
    opening: int = 0


@dataclass(slots=True)
class _TargetSpan:
    """Target tokens of a segment.

    start, end: the tokens start..end-1 of the segment.
    message: the message that is trained by them.
    threads: how many threads contain them.
    """

    start: int
    end: int
    message: int
    threads: int


@dataclass(slots=True)
class _Segment:
    """The tokens of a chain of only children.

    parent: the index of the segment before; -1 for the root.
    ids: token ids.
    leading: how many tokens at the beginning are given, before the first that is produced.
    targets: in order of start.
    children: the indices of the segments after it.
    """

    parent: int
    ids: list[int] = field(default_factory=list)
    leading: int = 0
    targets: list[_TargetSpan] = field(default_factory=list)
    children: list[int] = field(default_factory=list)

    def append_given(self, ids: Sequence[int]) -> None:
        if self.leading == len(self.ids):
            self.leading += len(ids)
        self.ids.extend(ids)


def assemble_tree(tree: Tree, tokens: Sequence[MessageTokens]) -> TokenTree | None:
    """Join the tokens of every message of ``tree``.

    A given token that siblings share and that is a target in all of them counts as a target of the first of them.

    Returns None if a thread would end without a token that is not shared.
    """
    segments, threads = _chain_messages(tree, tokens)
    for segment in reversed(segments):
        if len(segment.children) > 1:
            _share_beginning(segment, [segments[child] for child in segment.children])
    if any(not segment.ids and not segment.children for segment in segments):
        return None
    return _lay_out(segments, threads)


def _chain_messages(tree: Tree, tokens: Sequence[MessageTokens]) -> tuple[list[_Segment], int]:
    """Return the segments in depth-first order and the number of threads."""
    count = len(tree.messages)
    replies, threads = [0] * count, [0] * count
    for index in range(count - 1, -1, -1):
        threads[index] = threads[index] or 1
        parent = tree.parents[index]
        if parent >= 0:
            replies[parent] += 1
            threads[parent] += threads[index]
    segments: list[_Segment] = []
    segment_of = [0] * count  # the segment of every message
    for index, parent in enumerate(tree.parents):
        if parent >= 0 and replies[parent] == 1:
            segment_of[index] = segment_of[parent]
        else:
            segment_of[index] = len(segments)
            segments.append(_Segment(segment_of[parent] if parent >= 0 else -1))
            if parent >= 0:
                segments[segment_of[parent]].children.append(segment_of[index])
        segment = segments[segment_of[index]]
        start = len(segment.ids)
        segment.append_given(tokens[index].given)
        segment.ids.extend(tokens[index].produced)
        segment.targets += _message_targets(tree, tokens, index, start, threads[index])
    return segments, threads[0]


def _message_targets(
    tree: Tree, tokens: Sequence[MessageTokens], message: int, start: int, threads: int
) -> list[_TargetSpan]:
    """Return the targets among the tokens of a message, which begin at token ``start`` of its segment."""
    own, parent = tokens[message], tree.parents[message]
    middle = start + len(own.given)
    found: list[_TargetSpan] = []
    if own.train_given and own.trained and len(own.given) > own.opening:
        found.append(_TargetSpan(start + own.opening, middle, message, threads))
    elif own.predicted_by_previous and not own.train_given and parent >= 0 and tokens[parent].trained:
        found.append(_TargetSpan(start, start + own.predicted_by_previous, parent, threads))
    if own.produced and own.trained:
        found.append(_TargetSpan(middle, middle + len(own.produced), message, threads))
    return found


def _share_beginning(segment: _Segment, children: Sequence[_Segment]) -> None:
    """Move the longest common beginning of what the children are given to the end of their parent.

    Every child keeps at least one token. The shared part ends before a token that is a target in one child only.
    """
    limit = min(min(child.leading, len(child.ids) - 1) for child in children)
    if limit <= 0:
        return
    columns = zip(*(zip(child.ids[:limit], _trained(child, limit), strict=True) for child in children), strict=True)
    count = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
    if not count:
        return
    start = len(segment.ids)
    threads = sum(child.targets[0].threads if child.targets else 0 for child in children)
    for target in children[0].targets:
        if target.start < count:
            end = start + min(target.end, count)
            segment.targets.append(_TargetSpan(start + target.start, end, target.message, threads))
    segment.append_given(children[0].ids[:count])
    for child in children:
        del child.ids[:count]
        child.leading -= count
        for target in child.targets:
            target.start, target.end = max(target.start - count, 0), target.end - count
        child.targets = [target for target in child.targets if target.end > target.start]


def _trained(segment: _Segment, limit: int) -> list[bool]:
    """Return for each of the first ``limit`` tokens of a segment whether it is a target."""
    found = [False] * limit
    for target in segment.targets:
        for place in range(target.start, min(target.end, limit)):
            found[place] = True
    return found


def _lay_out(segments: Sequence[_Segment], threads: int) -> TokenTree:
    """Number the tokens of all segments. A segment without tokens is left out; its children move to its parent."""
    ids: list[int] = []
    rows: list[tuple[int, int, int]] = []
    spans: list[tuple[int, int, int, int, int]] = []
    row_of: list[int] = []  # the row of every segment, or that of its parent if it is left out
    for segment in segments:
        parent = row_of[segment.parent] if segment.parent >= 0 else -1
        if not segment.ids:
            row_of.append(parent)
            continue
        start = len(ids)
        for target in segment.targets:
            first, last = start + target.start, start + target.end
            source = first - 1 if target.start else rows[parent][1] - 1 if parent >= 0 else -1
            if source < 0:  # the first token of a thread has no predecessor, so it cannot be predicted
                source, first = first, first + 1
            if last > first:
                spans.append((first, last, source, target.message, target.threads))
        ids.extend(segment.ids)
        row_of.append(len(rows))
        rows.append((start, len(ids), parent))
    return TokenTree(
        ids=np.array(ids, np.int32),
        segments=np.array(rows, np.int32).reshape(-1, 3),
        spans=np.array(spans, np.int32).reshape(-1, 5),
        threads=threads,
    )
