"""Prompts for generation, stored as token trees.

In a tree of prompts an unwritten reply follows the messages of users and tools that are to be answered. It is a message
like any other, and the ``source`` of its span is the last token of the prompt. The tokens of an unwritten reply are
never trained.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, TypeAlias

import numpy as np

from tunesmith.errors import DataError
from tunesmith.text.formats.format import UNWRITTEN_REPLY
from tunesmith.text.tokens.crop import drop_threads
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.text.tokens.truncate import DroppedTree
from tunesmith.text.tree import ASKING_ROLES, Message, Tree

Prompts: TypeAlias = Literal["last", "every"]
NO_USER = "no message of a user"  # why a tree contains no prompt


def make_prompt_tree(tree: Tree, which: Prompts) -> Tree | None:
    """Return the tree with unwritten replies, which is rendered with the targets ``marked``.

    tree: any conversations. Assistant and system messages that no message of a user or tool follows are removed.
    which: ``last`` adds an unwritten reply to every message of a user or tool that nothing follows then. ``every`` adds
        one to every message of a user or tool, next to the replies that it has; of several messages of tools in a row
        to the last one.

    Returns None if the tree has no message of a user.
    """
    if not any(message.role == "user" for message in tree.messages):
        return None
    followed = [False] * len(tree.messages)
    kept = [False] * len(tree.messages)
    continued = [False] * len(tree.messages)  # whether a message of a tool follows
    for index in range(len(tree.messages) - 1, -1, -1):
        kept[index] = followed[index] or tree.messages[index].role in ASKING_ROLES
        if kept[index] and index:
            followed[tree.parents[index]] = True
            continued[tree.parents[index]] |= tree.messages[index].role == "tool"
    messages: list[Message] = []
    parents: list[int] = []
    new_index: dict[int, int] = {-1: -1}
    for index, message in enumerate(tree.messages):
        if not kept[index]:
            continue
        new_index[index] = len(messages)
        messages.append(replace(message, trained=None))
        parents.append(new_index[tree.parents[index]])
        asks = message.role in ASKING_ROLES and not (message.role == "tool" and continued[index])
        if asks and (which == "every" or not followed[index]):
            messages.append(UNWRITTEN_REPLY)
            parents.append(new_index[index])
    return Tree(tuple(messages), tuple(parents), tree.place, tree.source) if messages else None


def prompt_lengths(tree: TokenTree) -> list[int]:
    """Return for every span of a tree of prompts the number of tokens of its prompt."""
    positions = tree.positions()
    return [int(positions[source]) + 1 for source in tree.spans[:, 2].tolist()]


def prompt_ids(tree: TokenTree, source: int) -> tuple[int, ...]:
    """Return the ids from the root to token ``source``, inclusive."""
    segment = int(np.flatnonzero((tree.segments[:, 0] <= source) & (source < tree.segments[:, 1]))[0])
    thread = tree.thread(segment)
    return tuple(tree.ids[thread[thread <= source]].tolist())


def reserve_reply_tokens(
    tree: TokenTree, limit: int, reply_tokens: int, policy: Literal["drop", "error"], place: str = ""
) -> TokenTree | DroppedTree:
    """Remove the prompts that leave fewer than ``reply_tokens`` of ``limit`` tokens for the reply.

    tree: a tree of prompts. ``cut`` of the result counts the tokens that only removed prompts have.
    limit: tokens of prompt and reply together.
    reply_tokens: tokens that are reserved for the reply.
    policy: whether such prompts are dropped or are an error.
    place: of the record, for the error.

    Raises DataError if ``policy`` is "error".
    """
    if not len(tree.spans):
        return DroppedTree("no_target")
    lengths = np.asarray(prompt_lengths(tree))
    too_long = lengths + reply_tokens > limit
    if not too_long.any():
        return tree
    if policy == "error":
        what = f"a prompt of {int(lengths.max())} tokens and a reply of {reply_tokens} exceed the limit of {limit}"
        advice = "raise the limit, ask for shorter replies, or let long prompts be dropped"
        raise DataError(what, where=place, advice=advice)
    ends = np.searchsorted(tree.segments[:, 0], tree.spans[:, 0], side="right") - 1  # unwritten replies end threads
    dropped = np.zeros(len(tree.segments), np.bool_)
    dropped[ends[too_long]] = True
    rest = drop_threads(tree, dropped)
    return rest.tree if rest is not None and len(rest.tree.spans) else DroppedTree("too_long")
