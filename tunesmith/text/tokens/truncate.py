"""Keeping token trees within a length: long threads dropped, cut, or an error. What is cut is counted.

A causal model has one limit for a whole thread (``truncate``), an encoder-decoder one for what its encoder reads and one
for every reply (``truncate_input_and_replies``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from tunesmith.errors import DataError
from tunesmith.text.tokens.crop import CropSettings, extent, thread_lengths, without_threads
from tunesmith.text.tokens.token_tree import TokenTree

Policy: TypeAlias = Literal["drop", "right", "left", "window", "error"]
Seq2SeqPolicy: TypeAlias = Literal["drop", "right", "error"]


@dataclass(frozen=True, slots=True)
class Rejected:
    """A tree that cannot be trained on. too_long: truncation left no target. no_target: it never had one. not_ranked: no
    two of its replies can be compared any more."""

    reason: Literal["too_long", "no_target", "not_ranked"]


def truncate(tree: TokenTree, limit: int, policy: Policy, place: str = "", opening: int = 0) -> TokenTree | Rejected:
    """Make every root-to-leaf thread of ``tree`` at most ``limit`` tokens long.

    drop: longer threads go, and with them the tokens that are on no other thread. right: tokens from position ``limit``
    on go, a target may lose its end. left, window: the tree stays whole, for its long threads are cut as examples of their
    own when it is laid out (``long_threads.crop_threads``, with the same ``opening``). error: DataError that names ``place``.
    The result's ``cut`` counts tokens lost; for left and window, those that evaluation does not lay out.
    """
    assert limit > 0, limit
    if not len(tree.spans):
        return Rejected("no_target")
    lengths = thread_lengths(tree)
    longest = int(lengths.max())
    if longest <= limit:
        return tree
    if policy == "error":
        advice = "raise the limit, or let long threads be dropped or cut"
        raise DataError(f"a thread of {longest} tokens; the limit is {limit}", where=place, advice=advice)
    if policy == "left" or policy == "window":
        found = extent(tree, CropSettings(policy, limit, opening))
        shorter: TokenTree | None = replace(tree, cut=tree.cut + len(tree.ids) - found.kept) if found.targets else None
    elif policy == "drop":
        rest = without_threads(tree, lengths > limit)
        shorter = None if rest is None else rest.tree
    else:
        shorter = _cut_right(tree, limit - np.asarray(tree.offsets()))
    return shorter if shorter is not None and len(shorter.spans) else Rejected("too_long")


def _cut_right(tree: TokenTree, room: np.ndarray[tuple[int], np.dtype[np.int64]]) -> TokenTree:
    """Without the tokens of every segment from ``room`` (its own share of the limit) on."""
    starts, ends, parents = tree.segments.T
    sizes = np.clip(ends - starts, 0, np.maximum(room, 0))
    place = np.arange(len(tree.ids)) - np.repeat(starts, ends - starts)
    stays = place < np.repeat(sizes, ends - starts)
    new_index = np.cumsum(stays) - 1
    lasts = starts + sizes  # where every segment ends now, in old numbers
    spans = tree.spans.copy()
    spans[:, 1] = np.minimum(spans[:, 1], np.repeat(lasts, ends - starts)[spans[:, 0]])
    spans = spans[spans[:, 1] > spans[:, 0]]
    spans[:, 0], spans[:, 1], spans[:, 2] = (
        new_index[spans[:, 0]],
        new_index[spans[:, 1] - 1] + 1,
        new_index[spans[:, 2]],
    )
    filled = sizes > 0
    numbers = np.cumsum(filled) - 1
    totals = np.cumsum(sizes[filled])
    above = np.where(parents[filled] >= 0, numbers[parents[filled]], -1)
    segments = np.stack([totals - sizes[filled], totals, above], axis=1).astype(np.int32)
    ids = tree.ids[stays]
    return replace(tree, ids=ids, segments=segments, spans=spans, cut=tree.cut + len(tree.ids) - len(ids))


def truncate_input_and_replies(
    tree: TokenTree, input_limit: int, target_limit: int, policy: Seq2SeqPolicy, place: str = ""
) -> TokenTree | Rejected:
    """At most ``input_limit`` given tokens before the replies, and ``target_limit`` tokens in every reply.

    The tree is an input with one or several replies right below it, as formats for encoder-decoders give it. right: what is
    longer keeps its beginning and its last token, the end token, as the original's tokenizer did (Hugging Face T5, the
    same as t5x's ``append_eos_after_trim``). drop: longer replies go; with an input that is too long all of it goes.
    error: DataError that names ``place``. The result's ``cut`` counts tokens lost.
    """
    assert min(input_limit, target_limit) > 0, (input_limit, target_limit)
    if not len(tree.spans):
        return Rejected("no_target")
    parts = _pairs(tree)
    limits = np.where(np.arange(len(parts)) == 0, input_limit, target_limit)
    sizes = parts[:, 1] - parts[:, 0]
    too_long = sizes > limits
    if not too_long.any():
        return tree
    if policy == "error":
        first = int(np.argmax(too_long))
        name = "a reply" if first else "an input"
        what = f"{name} of {sizes[first]} tokens; the limit is {limits[first]}"
        raise DataError(what, where=place, advice="raise the limit, or let long ones be dropped or cut")
    if policy == "right":
        stays = np.ones(len(tree.ids), np.bool_)
        for (start, end), limit in zip(parts[too_long].tolist(), limits[too_long].tolist(), strict=True):
            stays[start + limit - 1 : end - 1] = False
        return _without_tokens(tree, stays)
    if too_long[0] or len(tree.segments) == 1:
        return Rejected("too_long")
    rest = without_threads(tree, too_long)
    return rest.tree if rest is not None and len(rest.tree.spans) else Rejected("too_long")


def _pairs(tree: TokenTree) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """[1 + R, 2] where the input and every reply begin and end. Several replies have segments of their own."""
    if len(tree.segments) > 1:
        assert (tree.segments[1:, 2] == 0).all(), "a reply to a reply; formats for encoder-decoders have single turns"
        return tree.segments[:, :2].astype(np.int64)
    start, end = int(tree.spans[0, 0]), len(tree.ids)
    return np.array([(0, start), (start, end)], np.int64)


def _without_tokens(tree: TokenTree, stays: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> TokenTree:
    """The tree without some tokens (False in ``stays``) that are neither the first nor the last of anything."""
    new = np.cumsum(stays) - 1
    ends = np.concatenate([[0], np.cumsum(stays)])
    segments, spans = tree.segments.copy(), tree.spans.copy()
    segments[:, :2] = ends[tree.segments[:, :2]]
    spans[:, :2], spans[:, 2] = ends[tree.spans[:, :2]], new[tree.spans[:, 2]]
    ids = tree.ids[stays]
    return replace(tree, ids=ids, segments=segments, spans=spans, cut=tree.cut + len(tree.ids) - len(ids))
