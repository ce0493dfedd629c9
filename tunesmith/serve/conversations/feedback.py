"""What people think of replies, as message trees for training: ranked replies, and good replies.

A comparison is what somebody has stated, and nothing else: a chosen draft is better than the drafts next to it, an
edited reply is better than the reply that was edited, and a reply with a vote up is better than one with a vote down.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from tunesmith.serve.conversations.oasst import as_oasst_message, as_oasst_tree
from tunesmith.serve.conversations.records import ConversationTree, StoredMessage
from tunesmith.serve.conversations.turns import joined_turns

INCOMPLETE = ("writing", "stopped", "interrupted", "failed")
"""States of replies that are not compared, because they were never complete."""

Pairs = set[tuple[str, str]]  # (better, worse), by id


@dataclass(slots=True)
class FeedbackCounts:
    """What became of the conversations.

    conversations, marked: how many there are, and how many are marked for training.
    trees: trees that were made.
    comparisons: pairs of replies of which one is better.
    good: trees with one good reply and nothing to compare it with.
    left_out: replies that were judged and are in no tree, by reason.
    """

    conversations: int = 0
    marked: int = 0
    trees: int = 0
    comparisons: int = 0
    good: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


def feedback_trees(trees: Iterator[ConversationTree], counts: FeedbackCounts) -> Iterator[dict[str, Any]]:
    """OpenAssistant's trees from the conversations that are marked for training. counts: is added to."""
    for tree in trees:
        counts.conversations += 1
        if not tree.conversation.feedback:
            continue
        counts.marked += 1
        for parent, siblings in tree.children().items():
            if parent is None:
                continue
            turns, by_id = joined_turns(tree.path_to(parent)), {reply.id: reply for reply in siblings}
            if not turns or turns[-1].role != "user":  # only files of other programs have such conversations
                judged = [reply for reply in siblings if reply.vote or reply.chosen is not None or reply.edit_of]
                counts.left_out["there is no message of the user before the reply"] += len(judged)
                continue
            for ranks in _groups(siblings, counts):
                counts.trees += 1
                replies = sorted(
                    (by_id[name] for name in ranks), key=lambda reply: (ranks[reply.id] or 0, reply.created)
                )
                yield _as_tree(tree.conversation.id, turns, replies, ranks)


def _groups(siblings: Sequence[StoredMessage], counts: FeedbackCounts) -> Iterator[dict[str, int | None]]:
    """The replies of one tree each: id -> rank, None for a good reply without a comparison."""
    replies = {reply.id: reply for reply in siblings if reply.role == "assistant"}
    usable = {name: reply for name, reply in replies.items() if reply.text.strip() and reply.state not in INCOMPLETE}
    pairs = _stated_pairs(usable)
    reached = _reached(pairs)
    contradictory = {(better, worse) for better, worse in pairs if better in reached[worse]}
    pairs -= contradictory
    used: set[str] = set()
    for names, own in _components(pairs):
        used |= names
        counts.comparisons += len(own)
        for group in _leveled(names, own):
            yield dict(group)
    for name, reply in replies.items():
        is_good = reply.vote > 0 or reply.edit_of is not None or reply.chosen is True
        if name in used or not (is_good or reply.vote < 0 or reply.chosen is False):
            continue
        if name not in usable:
            counts.left_out["the reply is not complete"] += 1
        elif any(name in pair for pair in contradictory):
            counts.left_out["the judgements contradict each other"] += 1
        elif not is_good:
            counts.left_out["a bad reply without a better one"] += 1
        else:
            counts.good += 1
            yield {name: None}


def _stated_pairs(replies: Mapping[str, StoredMessage]) -> Pairs:
    """(better, worse) of replies to one message that read the same system message and have different texts."""
    pairs: Pairs = set()
    for name, reply in replies.items():
        for other_name, other in replies.items():
            if reply.text.strip() == other.text.strip() or reply.system != other.system:
                continue
            chosen = (
                bool(reply.drafts) and reply.drafts == other.drafts and (reply.chosen, other.chosen) == (True, False)
            )
            if chosen or reply.edit_of == other_name or (reply.vote > 0 > other.vote):
                pairs.add((name, other_name))
    return pairs


def _reached(pairs: Pairs) -> dict[str, set[str]]:
    """Reply -> the replies that it is better than, also through others."""
    below: dict[str, set[str]] = {name: set() for pair in pairs for name in pair}
    for better, worse in pairs:
        below[better].add(worse)
    found = {}
    for name in below:
        reached, waiting = set[str](), [name]
        while waiting:
            new = below[waiting.pop()] - reached
            reached |= new
            waiting += new
        found[name] = reached
    return found


def _components(pairs: Pairs) -> Iterator[tuple[set[str], Pairs]]:
    """The replies that comparisons connect, with these comparisons."""
    connected = _reached(pairs | {(worse, better) for better, worse in pairs})
    rest = set(pairs)
    while rest:
        names = connected[min(rest)[0]]
        own = {pair for pair in rest if pair[0] in names}
        rest -= own
        yield set(names), own


def _leveled(names: set[str], pairs: Pairs) -> Iterator[dict[str, int]]:
    """Ranks that state these comparisons and what follows from them, and nothing else.

    One ranking, if there is one; otherwise one for each reply that is better than others.
    """
    ranks = dict.fromkeys(names, 0)
    before = dict[str, int]()
    while before != ranks:  # until the longest chain of better replies is counted
        before = dict(ranks)
        for better, worse in pairs:
            ranks[worse] = max(ranks[worse], ranks[better] + 1)
    reached = _reached(pairs)
    if all(second in reached[first] for first in names for second in names if ranks[first] < ranks[second]):
        yield ranks
        return
    for best in sorted({better for better, _ in pairs}):
        yield {best: 0, **{worse: 1 for better, worse in pairs if better == best}}


def _as_tree(
    conversation: str, turns: Sequence[StoredMessage], replies: Sequence[StoredMessage], ranks: Mapping[str, int | None]
) -> dict[str, Any]:
    """The tree of some replies to the last of these messages, from the first message on that the models read."""
    unread = min(min(reply.dropped for reply in replies), len(turns) - 1)
    chain, above = list[dict[str, Any]](), None
    for turn in turns[unread:]:
        chain.append(as_oasst_message(replace(turn, parent=above), None))
        above = turn.id
    found = [as_oasst_message(replace(reply, parent=above), ranks[reply.id]) for reply in replies]
    chain[-1]["replies"] = found
    for content, following in pairwise(chain):
        content["replies"] = [following]
    tree = as_oasst_tree(chain[0], replies[0].system)
    return {**tree, "message_tree_id": replies[0].id, "conversation_id": conversation}
