"""The lowest length limits with which a record is trained on, found with the truncation of the run itself."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace

from tunesmith.data.dataset.rendering import RenderSettings, limit_tree
from tunesmith.text.tokens.crop import thread_lengths
from tunesmith.text.tokens.prompts import prompt_lengths
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.text.tokens.truncate import DroppedTree, input_and_replies


def find_least_limits(settings: RenderSettings, tree: TokenTree, opening: int) -> tuple[int, ...] | None:
    """The lowest limits with which something of a record is trained on; None if there are none.

    settings: of the run; its limits are not used.
    tree: as it was rendered, before truncation.
    opening: of the renderer.

    Returns (tokens of a thread, or of a prompt without its reply), or (tokens of an input, tokens of a reply) for an
    encoder-decoder, whose replies have a separate limit.
    """
    if not len(tree.spans):
        return None
    if settings.max_target_length is not None:
        parts = input_and_replies(tree)
        size, *replies = (parts[:, 1] - parts[:, 0]).tolist()
        return size, min(replies)
    candidates = _lengths(settings, tree)

    def is_used(limit: int) -> bool:
        limited = replace(settings, max_length=limit + settings.reserved, truncation="drop")
        return not isinstance(limit_tree(limited, tree, "", opening), DroppedTree)

    place = bisect_left(candidates, True, key=is_used)  # a higher limit never removes more
    return (candidates[place],) if place < len(candidates) else None


def _lengths(settings: RenderSettings, tree: TokenTree) -> Sequence[int]:
    """The limits at which truncation begins to keep more, in order."""
    if settings.reserved:
        return sorted(set(prompt_lengths(tree)))
    return sorted(set(thread_lengths(tree)[tree.ends()].tolist()))
