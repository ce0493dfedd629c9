"""Truncation of token trees to a length limit. Every token that is removed is counted.

A causal model has one limit for a whole thread (``truncate``), an encoder-decoder has one for the input of its encoder
and one for every reply (``truncate_input_and_replies``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tunesmith.errors import DataError
from tunesmith.text.tokens.crop import CropSettings, count_crops, drop_threads, thread_lengths
from tunesmith.text.tokens.token_tree import TokenTree

Policy: TypeAlias = Literal["drop", "right", "left", "window", "error"]
Seq2SeqPolicy: TypeAlias = Literal["drop", "right", "error"]


@dataclass(frozen=True, slots=True)
class DroppedTree:
    """The result for a tree that cannot be trained on.

    reason: ``too_long``, truncation left no target, or no two replies to compare; ``no_target``, there was none before;
        ``not_ranked``, no two replies could be compared before.
    """

    reason: Literal["too_long", "no_target", "not_ranked"]


def truncate(tree: TokenTree, limit: int, policy: Policy, place: str = "", opening: int = 0) -> TokenTree | DroppedTree:
    """Limit every root-to-leaf thread of ``tree`` to ``limit`` tokens.

    tree: as it was rendered.
    limit: tokens of a thread.
    policy: ``drop`` removes longer threads, and with them the tokens that are in no other thread. ``right`` removes the
        tokens from position ``limit`` on. ``left`` and ``window`` leave the tree whole, because ``crop_threads`` crops
        its long threads when the examples are made. ``error`` refuses a tree with a longer thread.
    place: of the record, for the error.
    opening: as in ``CropSettings``.

    Returns a tree whose ``cut`` counts the removed tokens; for ``left`` and ``window`` those that evaluation does not
    use.

    Raises DataError if ``policy`` is "error" and a thread is too long.
    """
    assert limit > 0, limit
    if not len(tree.spans):
        return DroppedTree("no_target")
    lengths = thread_lengths(tree)
    longest = int(lengths.max())
    if longest <= limit:
        return tree
    if policy == "error":
        advice = "raise the limit, or let long threads be dropped or cut"
        raise DataError(f"a thread of {longest} tokens; the limit is {limit}", where=place, advice=advice)
    if policy == "left" or policy == "window":
        counts = count_crops(tree, CropSettings(policy, limit, opening))
        return replace(tree, cut=tree.cut + len(tree.ids) - counts.kept) if counts.targets else DroppedTree("too_long")
    if policy == "drop":
        rest = drop_threads(tree, lengths > limit)
        return rest.tree if rest is not None and len(rest.tree.spans) else DroppedTree("too_long")
    shorter = _cut_right(tree, limit - np.asarray(tree.offsets()))
    return shorter if len(shorter.spans) else DroppedTree("too_long")


def truncate_input_and_replies(
    tree: TokenTree, input_limit: int, target_limit: int, policy: Seq2SeqPolicy, place: str = ""
) -> TokenTree | DroppedTree:
    """Limit the input of an encoder-decoder and its replies.

    tree: an input with one or several direct replies, as formats for encoder-decoders write it.
    input_limit: tokens of the input.
    target_limit: tokens of a reply.
    policy: ``right`` keeps the beginning of what is too long and its last token, the end token, as the tokenizer of the
        original does (Hugging Face T5, the same as t5x's ``append_eos_after_trim``). ``drop`` removes replies that are
        too long, or the whole tree if its input is. ``error`` refuses both.
    place: of the record, for the error.

    Returns a tree whose ``cut`` counts the removed tokens.

    Raises DataError if ``policy`` is "error" and the input or a reply is too long.
    """
    assert min(input_limit, target_limit) > 0, (input_limit, target_limit)
    if not len(tree.spans):
        return DroppedTree("no_target")
    parts = input_and_replies(tree)
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
        return _drop_tokens(tree, stays)
    if too_long[0] or len(tree.segments) == 1:
        return DroppedTree("too_long")
    rest = drop_threads(tree, too_long)
    return rest.tree if rest is not None and len(rest.tree.spans) else DroppedTree("too_long")


def _cut_right(tree: TokenTree, limits: NDArray[np.int64]) -> TokenTree:
    """Return the tree with only the first ``limits`` (int64 [S], may be negative) tokens of every segment."""
    starts, ends, parents = tree.segments.T
    old_sizes = ends - starts
    sizes = np.clip(old_sizes, 0, np.maximum(limits, 0))
    place = np.arange(len(tree.ids)) - np.repeat(starts, old_sizes)
    stays = place < np.repeat(sizes, old_sizes)
    new_index = np.cumsum(stays) - 1
    new_ends = np.repeat(starts + sizes, old_sizes)  # for every token the end of its segment now, in old indices
    spans = tree.spans.copy()
    spans[:, 1] = np.minimum(spans[:, 1], new_ends[spans[:, 0]])
    spans = spans[spans[:, 1] > spans[:, 0]]
    spans[:, 1] = new_index[spans[:, 1] - 1] + 1
    spans[:, 0], spans[:, 2] = new_index[spans[:, 0]], new_index[spans[:, 2]]
    filled = sizes > 0
    row_of = np.cumsum(filled) - 1
    totals = np.cumsum(sizes[filled])
    above = np.where(parents[filled] >= 0, row_of[parents[filled]], -1)
    segments = np.stack([totals - sizes[filled], totals, above], axis=1).astype(np.int32)
    ids = tree.ids[stays]
    return replace(tree, ids=ids, segments=segments, spans=spans, cut=tree.cut + len(tree.ids) - len(ids))


def input_and_replies(tree: TokenTree) -> NDArray[np.int64]:
    """Return int64 [1 + R, 2], start and end of the input and of every reply. Several replies are a segment each.

    tree: an input with one or several direct replies, with at least one target.
    """
    if len(tree.segments) > 1:
        assert (tree.segments[1:, 2] == 0).all(), "a reply to a reply; formats for encoder-decoders have single turns"
        return tree.segments[:, :2].astype(np.int64)
    start, end = int(tree.spans[0, 0]), len(tree.ids)
    return np.array([(0, start), (start, end)], np.int64)


def _drop_tokens(tree: TokenTree, stays: NDArray[np.bool_]) -> TokenTree:
    """Return the tree without tokens that are not at an end of a segment or span. stays: bool [T]."""
    new = np.cumsum(stays) - 1
    ends = np.concatenate([[0], np.cumsum(stays)])
    segments, spans = tree.segments.copy(), tree.spans.copy()
    segments[:, :2] = ends[tree.segments[:, :2]]
    spans[:, :2], spans[:, 2] = ends[tree.spans[:, :2]], new[tree.spans[:, 2]]
    ids = tree.ids[stays]
    return replace(tree, ids=ids, segments=segments, spans=spans, cut=tree.cut + len(tree.ids) - len(ids))
