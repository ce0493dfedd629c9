"""Which messages of a tree are trained on."""

from __future__ import annotations

from collections import defaultdict
from typing import Literal, NamedTuple, TypeAlias

from tunesmith.text.tree import Tree

Targets: TypeAlias = Literal["assistant", "last", "all", "marked", "ranked"]


def target_mask(tree: Tree, targets: Targets) -> list[bool]:
    """Return for every message whether its tokens are targets. A message with ``trained = False`` never is.

    targets: which messages are trained.
        assistant: all messages; of each the tokens that its format produces, usually those of the assistant.
        last: assistant messages without an assistant message anywhere below them, and those with ``trained = True``; a
        turn that is the last of one thread but is answered in another is not the last.
        all: all messages, including the tokens that are given.
        marked: messages with ``trained = True``.
        ranked: replies that have a rank different from that of a sibling.
    """
    messages = tree.messages
    if targets == "ranked":
        ranked = {reply.message for reply in ranked_replies(tree)}
        return [index in ranked for index in range(len(messages))]
    if targets == "marked":
        return [message.trained is True for message in messages]
    if targets != "last":
        return [message.trained is not False for message in messages]
    answered = [False] * len(messages)  # whether there is an assistant message below
    for index in range(len(messages) - 1, 0, -1):
        if answered[index] or messages[index].role == "assistant":
            answered[tree.parents[index]] = True
    return [
        message.role == "assistant" and (message.trained is True or (message.trained is None and not later))
        for message, later in zip(messages, answered, strict=True)
    ]


class RankedReply(NamedTuple):
    """A reply that is compared with others.

    message: its index in the tree.
    group: the index of the message that it answers; the replies of a group are compared.
    rank: lower is better.
    score: as in the data; NaN if they have none.
    """

    message: int
    group: int
    rank: int
    score: float


def ranked_replies(tree: Tree) -> list[RankedReply]:
    """Return the replies of a tree that have a rank different from that of a sibling, in the order of the messages.

    Replies with ``trained = False`` are left out, and are no siblings here.
    """
    groups: dict[int, list[RankedReply]] = defaultdict(list)
    for index, (message, parent) in enumerate(zip(tree.messages, tree.parents, strict=True)):
        if message.role == "assistant" and message.rank is not None and message.trained is not False:
            score = float("nan") if message.score is None else message.score
            groups[parent].append(RankedReply(index, parent, message.rank, score))
    compared = [reply for group in groups.values() if len({reply.rank for reply in group}) > 1 for reply in group]
    return sorted(compared)
