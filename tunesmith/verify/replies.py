"""Proof of the ranked replies of a batch of either kind: ranks, groups, tokens and columns against the threads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch import Tensor

from tunesmith.batch.example import Example, Replies
from tunesmith.batch.protocols import MicroBatch
from tunesmith.batch.threads import split_into_threads

Tokens = tuple[int, ...]


def find_reply_fault(examples: Sequence[Example], batch: MicroBatch) -> str | None:
    """What is wrong with the ranked replies of ``batch`` as those of ``examples`` in their order, or None.

    The targets that belong to a reply must be its tokens in the threads of its example. Replies must be of one group
    exactly when they answer one message, and groups must be numbered without gaps. Pairs must be those of one group
    with different ranks, the better one first, and blocks the groups of the targets. Columns must be in the order of
    the replies.
    """
    replies, owner = batch.replies, batch.owner
    expected = [(place, *row) for place, example in enumerate(examples) for row in _expected_replies(example)]
    if not expected:
        return "the batch has replies, its examples have none" if len(replies) else None
    if len(expected) != len(replies):
        return f"{len(replies)} replies in the batch, {len(expected)} in its examples"
    if bool(((owner < 0) | (owner >= len(replies))).any()):
        return "there are targets that belong to no reply"
    target = batch.target
    for row, (place, _, rank, score, tokens) in enumerate(expected):
        name = f"example {examples[place].number}"
        if int(replies.rank[row]) != rank:
            return f"{name}: a reply of rank {rank} has rank {int(replies.rank[row])} in the batch"
        if not np.array_equal(float(replies.score[row]), score, equal_nan=True):
            return f"{name}: a reply of score {score:g} has score {float(replies.score[row]):g} in the batch"
        if target[owner == row].tolist() != tokens:
            return f"{name}: the targets of a reply of rank {rank} are not its tokens"
    if fault := _find_group_fault([row[:2] for row in expected], replies.group):
        return fault
    if fault := _find_pair_fault([row[:3] for row in expected], batch):
        return fault
    return _find_column_fault(examples, batch)


def _expected_replies(example: Example) -> Iterator[tuple[int, int, float, list[int]]]:
    """(group, rank, score, tokens) of every ranked reply, read from the first thread that holds it."""
    tree = example.tree
    if not len(tree.replies):
        return
    contents = reply_beginnings(example)
    for (message, group, rank), score in zip(tree.replies.tolist(), tree.scores.tolist(), strict=True):
        yield group, rank, score, list(contents[message][1]) if message in contents else []


def reply_beginnings(example: Example) -> dict[int, tuple[Tokens, Tokens]]:
    """Message -> (the tokens of its thread from the root to its end, the tokens that are its targets)."""
    found: dict[int, tuple[Tokens, Tokens]] = {}
    for thread in split_into_threads(example.tree):
        ids = tuple(thread.tree.ids.tolist())
        own: dict[int, list[tuple[int, int]]] = {}
        for start, end, _, message, _ in thread.tree.spans.tolist():
            own.setdefault(message, []).append((start, end))
        for message, parts in own.items():
            tokens = tuple(token for start, end in parts for token in ids[start:end])
            found.setdefault(message, (ids[: parts[-1][1]], tokens))
    return found


def _find_group_fault(expected: Sequence[tuple[int, int]], found: Tensor) -> str | None:
    """Whether the replies are grouped as expected, in groups numbered 0, 1, 2, ...

    expected: (example, message answered) of each reply.
    found: int64 [R], the groups in the batch.
    """
    numbers: dict[tuple[int, int], int] = {}
    for key, number in zip(expected, found.tolist(), strict=True):
        if numbers.setdefault(key, number) != number:
            return "replies to one message are in different groups"
    if sorted(numbers.values()) != list(range(len(numbers))):
        return "replies to different messages are in one group, or the groups are not numbered 0, 1, 2, ..."
    return None


def _find_pair_fault(expected: Sequence[tuple[int, int, int]], batch: MicroBatch) -> str | None:
    """Whether the preference pairs and the blocks are as expected. expected: (example, message, rank) of each reply."""
    replies = batch.replies
    pairs = [
        (better, worse)
        for better, (*message, rank) in enumerate(expected)
        for worse, (*other, lower) in enumerate(expected)
        if message == other and rank < lower
    ]
    if list(zip(replies.chosen.tolist(), replies.rejected.tolist(), strict=True)) != pairs:
        return "the preference pairs are not those of the ranks"
    compared = {expected[better][:2] for better, _ in pairs}
    if (replies.groups, replies.compared) != (len({row[:2] for row in expected}), len(compared)):
        return "the numbers of groups are not those of the replies"
    if batch.blocks.tolist() != [int(replies.group[owner]) for owner in batch.owner.tolist()]:
        return "the blocks of the targets are not the groups of their replies"
    return None


def _find_column_fault(examples: Sequence[Example], batch: MicroBatch) -> str | None:
    """Whether the columns of the batch are those of the examples, in the order of its replies or targets."""
    for name, values in batch.columns.items():
        expected = np.concatenate([example.columns[name] for example in examples])
        if len(values) not in (len(batch.replies), batch.targets):
            return (
                f"column {name!r} has {len(values)} values for {len(batch.replies)} replies and {batch.targets} targets"
            )
        if not np.array_equal(values.numpy(), expected, equal_nan=True):
            return f"column {name!r} is not in the order of the replies"
    return None


def find_reply_end_fault(examples: Sequence[Example], replies: Replies, ids: Tensor, until: Tensor) -> str | None:
    """What is wrong with the ends of the replies in a packed row, or None.

    The tokens that the last token of a reply attends to must be its thread up to there, and nothing else.
    ids: int64 [T].
    until: int64 [T], as of ``batch.packed.Layout``.
    """
    everything, bounds = ids.numpy(), until.numpy()
    place = np.arange(len(everything))
    row = start = 0
    for example in examples:
        beginnings = reply_beginnings(example) if len(example.tree.replies) else {}
        for message in example.tree.replies[:, 0].tolist():
            end = int(replies.end[row])
            row += 1
            if not start <= end < start + len(example.tree.ids):
                return f"example {example.number}: the end of reply {message} lies in another example"
            seen = np.flatnonzero((place <= end) & (bounds > end))
            if tuple(everything[seen].tolist()) != beginnings[message][0]:
                return f"example {example.number}: reply {message} does not end where its thread does"
        start += len(example.tree.ids)
    return None
