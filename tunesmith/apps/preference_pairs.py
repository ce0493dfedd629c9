"""Preference pairs: the pairs of a tree with ranked replies, and how a pair is cleaned and written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from tunesmith.data.readers.ranked import strip_messages
from tunesmith.text.formats.format import with_context
from tunesmith.text.tree import ASKING_ROLES, Message, Tree


class PreferencePair(NamedTuple):
    """Two replies to one prompt.

    prompt: the messages before the replies.
    chosen: the reply of the higher rank.
    rejected: the other reply.
    """

    prompt: Sequence[Message]
    chosen: Message
    rejected: Message


def pairs_of(tree: Tree) -> Iterator[PreferencePair]:
    """Every two replies to one message that have different ranks, those of the best reply first."""
    for parent, children in enumerate(tree.children()):
        replies = [tree.messages[child] for child in children if tree.messages[child].rank is not None]
        replies.sort(key=lambda reply: reply.rank or 0)
        prompt = [tree.messages[index] for index in tree.ancestors(parent)] if len(replies) > 1 else []
        for index, chosen in enumerate(replies):
            for rejected in replies[index + 1 :]:
                if rejected.rank != chosen.rank:
                    yield PreferencePair(prompt, chosen, rejected)


def strip_pair(pair: PreferencePair) -> PreferencePair | str:
    """The pair without white space around its texts and without empty messages, or the reason why it cannot be used."""
    prompt = strip_messages(pair.prompt)
    chosen, rejected = (replace(reply, text=reply.text.strip()) for reply in (pair.chosen, pair.rejected))
    if not prompt or prompt[-1].role not in ASKING_ROLES:
        return "prompt does not end with the user"
    if chosen.is_empty or rejected.is_empty:
        return "empty reply"
    equal = (chosen.text, chosen.extra_texts()) == (rejected.text, rejected.extra_texts())
    return "equal replies" if equal else PreferencePair(prompt, chosen, rejected)


def pair_line(pair: PreferencePair, source: str) -> bytes:
    """A pair as a line of JSON Lines, as the reader ``preference`` reads it.

    The context of a message follows its text after an empty line.
    source: the name of the data source.
    """
    before = [message.as_dict(with_context(message, "keep")) for message in pair.prompt]
    record: dict[str, Any] = {
        side: [*before, reply.as_dict(reply.text)]
        for side, reply in (("chosen", pair.chosen), ("rejected", pair.rejected))
    }
    if pair.prompt[0].tools:
        record["tools"] = json.loads(pair.prompt[0].tools)
    record["source"] = source
    chosen, rejected = pair.chosen.score, pair.rejected.score
    if chosen is not None and rejected is not None:
        record["margin"] = chosen - rejected
    return json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n"
