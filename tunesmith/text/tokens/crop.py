"""Crops of threads that are longer than the limit. Each crop is a token tree of one thread, a separate example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tunesmith.draws import crop_draws
from tunesmith.text.tokens.token_tree import TokenTree

Flags = NDArray[np.bool_]
Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class CropSettings:
    """How threads of more than ``limit`` tokens are cropped when the examples of a tree are made.

    policy: ``left`` keeps the end of a thread. ``window`` keeps, in training and with ``probability``, a window at an
        offset that is drawn uniformly among those with a target in the window; otherwise, and always in evaluation, the
        beginning, or the first window with a target if the beginning has none.
    limit: tokens of a crop.
    opening: tokens at the beginning of every thread that every crop keeps (bos, prefix).
    probability: of a drawn window.

    The original (Open-Assistant, ``dialogue_collator.py``) draws a window with probability 0.8 among all offsets, so
    some windows have no target, and draws in evaluation too. Dolly (``trainer.py``) cuts on the right and then drops
    what reached the limit, which is the truncation ``drop``.
    """

    policy: Literal["left", "window"]
    limit: int
    opening: int = 0
    probability: float = 0.8


@dataclass(frozen=True, slots=True)
class Subtree:
    """A part of a token tree.

    tree: the part, as a token tree of T tokens.
    tokens: int64 [T], the indices of its tokens in the whole tree.
    """

    tree: TokenTree
    tokens: Numbers


@dataclass(frozen=True, slots=True)
class CropCounts:
    """What evaluation uses of a tree.

    tokens: of all its examples.
    kept: tokens of the tree that are in at least one example.
    targets: tokens of the tree that are a target in at least one example.
    """

    tokens: int
    kept: int
    targets: int


def crop_threads(
    tree: TokenTree, settings: CropSettings, seed: int | None = None, *, once: bool = False
) -> list[TokenTree]:
    """Return the examples of a stored tree: the tree without its long threads, then a crop of each long thread.

    tree: as it is stored.
    settings: how long threads are cropped.
    seed: of the windows, which depend on nothing else, so a resumed run draws the same; None for evaluation.
    once: whether a token is a target only in the first example that has it as one (the weighting "messages"); then
        windows are drawn among those with a target that no earlier example has. If False, every crop has all its
        targets (the weighting "threads"), and the spans of the remaining tree count one thread less.

    Examples without a target are left out.
    """
    return [part.tree for part in _crop(tree, settings, seed, once)]


def count_crops(tree: TokenTree, settings: CropSettings) -> CropCounts:
    """Return how much of a tree evaluation uses. Training uses at most as many tokens, but may use others."""
    parts = _crop(tree, settings, None, False)
    kept, targets = np.zeros(len(tree.ids), bool), np.zeros(len(tree.ids), bool)
    for part in parts:
        kept[part.tokens] = True
        targets[part.tokens[part.tree.targets()]] = True
    return CropCounts(sum(len(part.tokens) for part in parts), int(kept.sum()), int(targets.sum()))


def thread_lengths(tree: TokenTree) -> Numbers:
    """Return int64 [S], for every segment the number of tokens from the root to its end."""
    return np.asarray(tree.offsets(), np.int64) + tree.segments[:, 1] - tree.segments[:, 0]


def crop_window(tree: TokenTree, end: int, offset: int, settings: CropSettings) -> TokenTree:
    """Return the crop of one thread at a given offset.

    tree: the whole tree.
    end: the segment in which the thread ends.
    offset: of the first token after the opening, counted from the end of the opening.
    settings: its limit and opening; the rest is not used.
    """
    path = tree.thread(end).astype(np.int64)
    return _cut_window(tree, path, _target_messages(tree)[path], offset, settings).tree


def drop_threads(tree: TokenTree, dropped: Flags) -> Subtree | None:
    """Remove threads from a tree, and with them the tokens that are in no other thread.

    tree: the whole tree, with S segments.
    dropped: bool [S], whether the thread that ends in a segment is removed.

    Returns None if no thread is left.
    """
    parents = tree.segments[:, 2].tolist()
    count = len(parents)
    kept, lost = [0] * count, [0] * count  # threads through every segment
    for end in tree.ends():
        (lost if dropped[end] else kept)[end] = 1
    for index in range(count - 1, -1, -1):
        if parents[index] >= 0:
            kept[parents[index]] += kept[index]
            lost[parents[index]] += lost[index]
    if not any(kept):
        return None
    sizes = tree.segments[:, 1] - tree.segments[:, 0]
    stays = np.repeat(np.asarray(kept) > 0, sizes)
    new_index = np.cumsum(stays) - 1
    segment_of = np.repeat(np.arange(count), sizes)
    spans = tree.spans[stays[tree.spans[:, 0]]].copy()
    spans[:, 4] -= np.asarray(lost, np.int32)[segment_of[spans[:, 0]]]
    spans[:, 1] = new_index[spans[:, 1] - 1] + 1
    spans[:, 0], spans[:, 2] = new_index[spans[:, 0]], new_index[spans[:, 2]]
    segments = _merge_only_children(
        [(index, int(sizes[index]), parents[index]) for index in range(count) if kept[index]]
    )
    threads = tree.threads - sum(lost[index] for index in range(count) if parents[index] < 0)
    ids = tree.ids[stays]
    cut = tree.cut + len(tree.ids) - len(ids)
    rest = replace(tree, ids=ids, segments=segments, spans=spans, threads=threads, cut=cut)
    return Subtree(rest, np.flatnonzero(stays))


def _crop(tree: TokenTree, settings: CropSettings, seed: int | None, once: bool) -> list[Subtree]:
    too_long = thread_lengths(tree) > settings.limit
    if not too_long.any():
        return [Subtree(tree, np.arange(len(tree.ids)))]
    parts: list[Subtree] = []
    message_of = _target_messages(tree)
    taken = np.zeros(len(tree.ids), bool)  # targets of the examples so far
    rest = drop_threads(tree, too_long)
    if rest is not None and len(rest.tree.spans):
        parts.append(rest)
        taken[rest.tokens[rest.tree.targets()]] = True
    for end in tree.ends():
        if not too_long[end]:
            continue
        path = tree.thread(end).astype(np.int64)
        targets = message_of[path] >= 0
        free = targets & ~taken[path] if once else targets
        offset = _choose_offset(targets, free, settings, None if seed is None else crop_draws(seed, end))
        if offset is None:
            continue
        part = _cut_window(tree, path, np.where(free, message_of[path], -1), offset, settings)
        if len(part.tree.spans):
            parts.append(part)
            taken[part.tokens[part.tree.targets()]] = True
    return parts


def _target_messages(tree: TokenTree) -> Numbers:
    """Return int64 [T], for every token the message that it is a target of, or -1."""
    found = np.full(len(tree.ids), -1, np.int64)
    for start, end, _, message, _ in tree.spans.tolist():
        found[start:end] = message
    return found


def _choose_offset(targets: Flags, free: Flags, settings: CropSettings, draws: tuple[float, int] | None) -> int | None:
    """Return the offset after the opening at which a long thread is cropped; None if no window has a target.

    targets: bool [L], the targets of the thread.
    free: bool [L], those that may be targets of this example.
    draws: a uniform number in [0, 1), and a uniform integer of 64 bits; None for evaluation.
    """
    if settings.limit <= settings.opening:
        return None
    if settings.policy == "left":
        return len(targets) - settings.limit
    if draws is not None and draws[0] < settings.probability:
        fitting = np.flatnonzero(_holds_target(free, settings))
        return int(fitting[draws[1] * len(fitting) >> 64]) if len(fitting) else None
    fitting = np.flatnonzero(_holds_target(targets, settings))
    return int(fitting[0]) if len(fitting) else None


def _holds_target(targets: Flags, settings: CropSettings) -> Flags:
    """Return for every offset whether the window there has a target.

    The first token of a window is none, because the token that predicts it is not in the window.
    targets: bool [L].
    """
    body = targets[settings.opening :]
    size = settings.limit - settings.opening
    before = np.concatenate([[0], np.cumsum(body)])
    offsets = np.arange(len(body) - size + 1)
    held = before[offsets + size] > before[offsets + 1]
    held[0] |= body[0]  # at offset 0 the first token follows its predecessor
    return np.asarray(held, np.bool_)


def _cut_window(tree: TokenTree, path: Numbers, messages: Numbers, offset: int, settings: CropSettings) -> Subtree:
    """Return a window of a thread as a tree of one segment.

    path: int64 [L], the indices of the tokens of the thread.
    messages: int64 [L], the message that every token is a target of, or -1.
    """
    start = settings.opening + offset
    places = np.concatenate([np.arange(settings.opening), np.arange(start, start + settings.limit - settings.opening)])
    message = messages[places]
    if offset:
        message[settings.opening] = -1  # the token that predicts it was removed
    change = np.flatnonzero(np.diff(message, prepend=-1, append=-1))
    spans = [
        (first, last, first - 1, int(message[first]), 1)
        for first, last in zip(change[:-1].tolist(), change[1:].tolist(), strict=True)
        if message[first] >= 0
    ]
    tokens = path[places]
    segments = np.array([[0, len(tokens), -1]], np.int32)
    return Subtree(TokenTree(tree.ids[tokens], segments, np.array(spans, np.int32).reshape(-1, 5), 1), tokens)


def _merge_only_children(kept: Sequence[tuple[int, int, int]]) -> NDArray[np.int32]:
    """Return int32 [S, 3], the segments that stay, in which an only child is a part of its parent.

    kept: (old index, size, old parent) of every segment that stays.
    """
    children: dict[int, int] = {}
    for _, _, parent in kept:
        children[parent] = children.get(parent, 0) + 1
    rows: list[list[int]] = []
    row_of: dict[int, int] = {}
    total = 0
    for index, size, parent in kept:
        if parent >= 0 and children[parent] == 1:
            row_of[index] = row_of[parent]
            rows[row_of[index]][1] += size
        else:
            row_of[index] = len(rows)
            rows.append([total, total + size, row_of.get(parent, -1)])
        total += size
    return np.array(rows, np.int32).reshape(-1, 3)
