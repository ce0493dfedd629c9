"""Which messages of a tree are trained on."""

from __future__ import annotations

from collections import defaultdict
from typing import Literal, NamedTuple, TypeAlias

from tunesmith.text.tree import Tree

Targets: TypeAlias = Literal["assistant", "last", "all", "marked", "ranked"]


def chosen_messages(tree: Tree, targets: Targets) -> list[bool]:
    """For every message whether its tokens are targets. ``Message.trained = False`` always keeps a message out.

    assistant: every message that the format trains (what the assistant says). last: only assistant messages with no
    assistant message anywhere below them, and those with ``trained = True``; a turn that is the last of one thread but
    is answered in another is not the last. all: every message, whoever says it. marked: only ``trained = True``.
    ranked: only replies with a rank beside one with another rank.
    """
    messages = tree.messages
    if targets == "ranked":
        ranked = {reply.message for reply in ranked_replies(tree)}
        return [index in ranked for index in range(len(messages))]
    if targets == "marked":
        return [message.trained is True for message in messages]
    if targets != "last":
        return [message.trained is not False for message in messages]
    answered = [False] * len(messages)  # whether an assistant message is somewhere below
    for index in range(len(messages) - 1, 0, -1):
        if answered[index] or messages[index].role == "assistant":
            answered[tree.parents[index]] = True
    return [
        message.role == "assistant" and (message.trained is True or (message.trained is None and not later))
        for message, later in zip(messages, answered, strict=True)
    ]


class RankedReply(NamedTuple):
    """message: its number. group: the number of the message that it answers. score: NaN where the data give none."""

    message: int
    group: int
    rank: int
    score: float


def ranked_replies(tree: Tree) -> list[RankedReply]:
    """The assistant messages of a tree that have a rank, each beside one with another rank, in order.

    ``Message.trained = False`` keeps a reply out.
    """
    groups: dict[int, list[RankedReply]] = defaultdict(list)
    for index, (message, parent) in enumerate(zip(tree.messages, tree.parents, strict=True)):
        if message.role == "assistant" and message.rank is not None and message.trained is not False:
            score = float("nan") if message.score is None else message.score
            groups[parent].append(RankedReply(index, parent, message.rank, score))
    compared = [reply for group in groups.values() if len({reply.rank for reply in group}) > 1 for reply in group]
    return sorted(compared)
