"""Threads longer than the limit leave their tree: dropped for good, or cut to the limit as examples of their own."""

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
    """How threads of more than ``limit`` tokens are cut when their tree is laid out. Each is then an example of its own.

    opening: tokens at the beginning of every thread that stay in front (begin token, prefix); the rest gets what they leave.
    left: a thread keeps its end. window: in training, with ``probability``, a stretch at an offset that is drawn uniformly
    among those that hold a target, else its beginning; in evaluation always its beginning. A beginning without a target
    gives way to the first stretch that has one.
    The original (Open-Assistant, ``dialogue_collator.py``) drew a window with probability 0.8, from all offsets, so that
    some held no target, and in evaluation too; dolly (``trainer.py``) cut on the right and dropped what had reached the
    limit then, which is ``drop``.
    """

    policy: Literal["left", "window"]
    limit: int
    opening: int = 0
    probability: float = 0.8


@dataclass(frozen=True, slots=True)
class Part:
    """Part of a tree. tokens: int64 [T], where its tokens stand in the whole tree."""

    tree: TokenTree
    tokens: Numbers


@dataclass(frozen=True, slots=True)
class Extent:
    """What evaluation lays out for a tree. tokens: of all examples. kept, targets: tokens of the tree, each counted once."""

    tokens: int
    kept: int
    targets: int


def crop_threads(
    tree: TokenTree, rule: CropSettings, seed: int | None = None, *, once: bool = False
) -> list[TokenTree]:
    """The examples that a tree of the store is laid out as: what is left of the tree, then its long threads.

    seed: of the windows; None for evaluation. Nothing else decides them, so a resumed run draws the same.
    once: a token is a target only in the first example that has it as one (the weighting "messages"), and windows are
    drawn among those that hold a target that is not yet taken; so a shared turn counts once in all. Without it every
    long thread has all its targets (the weighting "threads"), and the tree that is left has one thread less through them.
    Examples without a target are left out.
    """
    return [part.tree for part in _parts(tree, rule, seed, once)]


def extent(tree: TokenTree, rule: CropSettings) -> Extent:
    """How much of a tree evaluation lays out; training does not lay out more tokens, but may choose others."""
    parts = _parts(tree, rule, None, False)
    kept, targets = np.zeros(len(tree.ids), bool), np.zeros(len(tree.ids), bool)
    for part in parts:
        kept[part.tokens] = True
        targets[part.tokens[part.tree.targets()]] = True
    return Extent(sum(len(part.tokens) for part in parts), int(kept.sum()), int(targets.sum()))


def thread_lengths(tree: TokenTree) -> Numbers:
    """[S] for every segment the tokens from the root to its end."""
    return np.asarray(tree.offsets(), np.int64) + tree.segments[:, 1] - tree.segments[:, 0]


def _parts(tree: TokenTree, rule: CropSettings, seed: int | None, once: bool) -> list[Part]:
    too_long = thread_lengths(tree) > rule.limit
    if not too_long.any():
        return [Part(tree, np.arange(len(tree.ids)))]
    parts: list[Part] = []
    owner = _owners(tree)
    taken = np.zeros(len(tree.ids), bool)
    rest = without_threads(tree, too_long)
    if rest is not None and len(rest.tree.spans):
        parts.append(rest)
        taken[rest.tokens[rest.tree.targets()]] = True
    for end in tree.ends():
        if not too_long[end]:
            continue
        path = tree.thread(end).astype(np.int64)
        targets = owner[path] >= 0
        free = targets & ~taken[path] if once else targets
        offset = _offset(targets, free, rule, None if seed is None else crop_draws(seed, end))
        if offset is None:
            continue
        part = _cut(tree, path, np.where(free, owner[path], -1), offset, rule)
        if len(part.tree.spans):
            parts.append(part)
            taken[part.tokens[part.tree.targets()]] = True
    return parts


def window(tree: TokenTree, end: int, offset: int, rule: CropSettings) -> TokenTree:
    """The thread that ends in segment ``end``: its opening, then as much as the limit allows from ``offset`` after it on."""
    path = tree.thread(end).astype(np.int64)
    return _cut(tree, path, _owners(tree)[path], offset, rule).tree


def _owners(tree: TokenTree) -> Numbers:
    """[T] the message that every token is a target of, or -1."""
    found = np.full(len(tree.ids), -1, np.int64)
    for start, end, _, message, _ in tree.spans.tolist():
        found[start:end] = message
    return found


def _offset(targets: Flags, free: Flags, rule: CropSettings, draws: tuple[float, int] | None) -> int | None:
    """Where after the opening a long thread is cut from, or None if nothing there can be trained. Both flags are [L]."""
    if rule.limit <= rule.opening:
        return None
    if rule.policy == "left":
        return len(targets) - rule.limit
    if draws is not None and draws[0] < rule.probability:
        fitting = np.flatnonzero(_holds_target(free, rule))
        return int(fitting[draws[1] * len(fitting) >> 64]) if len(fitting) else None
    fitting = np.flatnonzero(_holds_target(targets, rule))
    return int(fitting[0]) if len(fitting) else None


def _holds_target(targets: Flags, rule: CropSettings) -> Flags:
    """Whether the stretch at every offset holds a target. Its first token is none: what predicts it was cut off."""
    body = targets[rule.opening :]
    room = rule.limit - rule.opening
    before = np.concatenate([[0], np.cumsum(body)])
    offsets = np.arange(len(body) - room + 1)
    held = before[offsets + room] > before[offsets + 1]
    held[0] |= body[0]  # only here it follows what it followed in the thread
    return np.asarray(held, np.bool_)


def _cut(tree: TokenTree, path: Numbers, owner: Numbers, offset: int, rule: CropSettings) -> Part:
    """A stretch of the thread ``path`` as a tree of one segment. owner: [L] the message of every target, or -1."""
    start = rule.opening + offset
    places = np.concatenate([np.arange(rule.opening), np.arange(start, start + rule.limit - rule.opening)])
    message = owner[places]
    if offset:
        message[rule.opening] = -1  # the token that predicts it was cut off
    change = np.flatnonzero(np.diff(message, prepend=-1, append=-1))
    rows = [
        (first, last, first - 1, int(message[first]), 1)
        for first, last in zip(change[:-1].tolist(), change[1:].tolist(), strict=True)
        if message[first] >= 0
    ]
    tokens = path[places]
    segments = np.array([[0, len(tokens), -1]], np.int32)
    return Part(TokenTree(tree.ids[tokens], segments, np.array(rows, np.int32).reshape(-1, 5), 1), tokens)


def without_threads(tree: TokenTree, too_long: Flags) -> Part | None:
    """What is left without the threads that end in a segment marked ``too_long`` ([S])."""
    parents = tree.segments[:, 2].tolist()
    count = len(parents)
    kept, lost = [0] * count, [0] * count  # threads through every segment
    for end in tree.ends():
        (lost if too_long[end] else kept)[end] = 1
    for index in range(count - 1, -1, -1):
        if parents[index] >= 0:
            kept[parents[index]] += kept[index]
            lost[parents[index]] += lost[index]
    if not any(kept):
        return None
    sizes = tree.segments[:, 1] - tree.segments[:, 0]
    stays = np.repeat(np.asarray(kept) > 0, sizes)
    new_index = np.cumsum(stays) - 1
    owner = np.repeat(np.arange(count), sizes)
    spans = tree.spans[stays[tree.spans[:, 0]]].copy()
    spans[:, 4] -= np.asarray(lost, np.int32)[owner[spans[:, 0]]]
    last = new_index[spans[:, 1] - 1]
    spans[:, 0], spans[:, 1], spans[:, 2] = new_index[spans[:, 0]], last + 1, new_index[spans[:, 2]]
    segments = _merge_only_children(
        [(index, int(sizes[index]), parents[index]) for index in range(count) if kept[index]]
    )
    dropped = sum(lost[index] for index in range(count) if parents[index] < 0)
    ids = tree.ids[stays]
    cut = tree.cut + len(tree.ids) - len(ids)
    shorter = replace(tree, ids=ids, segments=segments, spans=spans, threads=tree.threads - dropped, cut=cut)
    return Part(shorter, np.flatnonzero(stays))


def _merge_only_children(kept: Sequence[tuple[int, int, int]]) -> NDArray[np.int32]:
    """The table of the segments that stay, from (old index, size, old parent); an only child becomes part of its parent."""
    children: dict[int, int] = {}
    for _, _, parent in kept:
        children[parent] = children.get(parent, 0) + 1
    rows: list[list[int]] = []
    places: dict[int, int] = {}
    total = 0
    for index, size, parent in kept:
        if parent >= 0 and children[parent] == 1:
            places[index] = places[parent]
            rows[places[index]][1] += size
        else:
            places[index] = len(rows)
            rows.append([total, total + size, places.get(parent, -1)])
        total += size
    return np.array(rows, np.int32).reshape(-1, 3)
