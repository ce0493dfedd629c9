"""Trees of messages as prompts: what the user said is kept, and replies that are not yet written are asked for.

A prompt is stored like everything else, as a token tree: the reply that is asked for is a message like any other, and the
``source`` of its span is the last token of the prompt. What stands in the place of the reply is never trained on.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, TypeAlias

import numpy as np

from tunesmith.errors import DataError
from tunesmith.text.formats.format import UNWRITTEN
from tunesmith.text.tokens.crop import without_threads
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.text.tokens.truncate import Rejected
from tunesmith.text.tree import Message, Tree

Prompts: TypeAlias = Literal["last", "every"]
NO_USER = "nothing that a user says"  # why a tree is no prompt


def as_prompts(tree: Tree, which: Prompts) -> Tree | None:
    """The tree with unwritten replies, to be rendered with the targets ``marked``; None if no user speaks in it.

    Replies that nothing follows are dropped. last: every message of a user that nothing follows then is given an unwritten
    reply. every: so is every other message of a user, beside the replies that it has.
    """
    followed = [False] * len(tree.messages)
    kept = [False] * len(tree.messages)
    for index in range(len(tree.messages) - 1, -1, -1):
        kept[index] = followed[index] or tree.messages[index].role == "user"
        if kept[index] and index:
            followed[tree.parents[index]] = True
    messages: list[Message] = []
    parents: list[int] = []
    places: dict[int, int] = {-1: -1}
    for index, message in enumerate(tree.messages):
        if not kept[index]:
            continue
        places[index] = len(messages)
        messages.append(replace(message, trained=None))
        parents.append(places[tree.parents[index]])
        if message.role == "user" and (which == "every" or not followed[index]):
            messages.append(UNWRITTEN)
            parents.append(places[index])
    return Tree(tuple(messages), tuple(parents), tree.place, tree.source) if messages else None


def prompt_lengths(tree: TokenTree) -> list[int]:
    """For every span the tokens of its thread up to its source."""
    positions = tree.positions()
    return [int(positions[source]) + 1 for source in tree.spans[:, 2].tolist()]


def prompt_ids(tree: TokenTree, source: int) -> tuple[int, ...]:
    """The ids from the root to token ``source``, which is part of them."""
    segment = int(np.flatnonzero((tree.segments[:, 0] <= source) & (source < tree.segments[:, 1]))[0])
    thread = tree.thread(segment)
    return tuple(tree.ids[thread[thread <= source]].tolist())


def with_room(
    tree: TokenTree, limit: int, room: int, policy: Literal["drop", "error"], place: str = ""
) -> TokenTree | Rejected:
    """Without the prompts that leave less than ``room`` of ``limit`` tokens for a reply.

    error: DataError that names ``place``. The result's ``cut`` counts the tokens that only dropped prompts had.
    """
    if not len(tree.spans):
        return Rejected("no_target")
    lengths = np.asarray(prompt_lengths(tree))
    too_long = lengths + room > limit
    if not too_long.any():
        return tree
    if policy == "error":
        what = f"a prompt of {int(lengths.max())} tokens, with room for {room} more, is above the limit of {limit}"
        raise DataError(
            what, where=place, advice="raise the limit, ask for shorter replies, or let long prompts be dropped"
        )
    ends = np.searchsorted(tree.segments[:, 0], tree.spans[:, 0], side="right") - 1  # the unwritten replies end threads
    segments = np.zeros(len(tree.segments), np.bool_)
    segments[ends[too_long]] = True
    rest = without_threads(tree, segments)
    return rest.tree if rest is not None and len(rest.tree.spans) else Rejected("too_long")
