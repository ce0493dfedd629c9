"""Conversations as OpenAssistant's message trees: one tree for each first message.

A tree may have what theirs do not: a root of the role ``system``, and the ``context`` of a message. The reader
``oasst`` knows both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, get_args

from tunesmith.data.readers.oasst import ROLE_NAMES, ROLES
from tunesmith.data.sources.strict_json import type_name
from tunesmith.errors import DataError
from tunesmith.serve.conversations.records import (
    DEEPEST,
    ConversationTree,
    MessageRole,
    StoredConversation,
    StoredMessage,
    new_id,
    now,
    title_of,
)

ADVICE = "a tree is {prompt: {message_id, text, role, replies: [..]}}, as OpenAssistant exports it"

Content = dict[str, Any]


def as_oasst_trees(tree: ConversationTree) -> Iterator[Content]:
    """The trees of a conversation. Chosen drafts have rank 0, the drafts that they were preferred to rank 1.

    A tree may be too deep for a line of JSON (``is_nestable``); then its messages are written as rows.
    """
    children = tree.children()
    starts = [number for number, message in enumerate(tree.messages) if message.parent is None]
    for start, end in pairwise([*starts, len(tree.messages)]):
        first, below = tree.messages[start], tree.messages[start:end]
        replies: dict[str, list[Content]] = {}
        for message in reversed(below):
            content = as_oasst_message(message, None if message.chosen is None else int(not message.chosen))
            content["replies"] = replies.pop(message.id, [])[::-1]
            replies.setdefault(message.parent or "", []).append(content)
        answers = children.get(first.id, [])
        system = answers[0].system if answers else tree.conversation.system
        yield as_oasst_tree(replies[""][0], system)


def as_oasst_tree(root: Content, system: str) -> Content:
    """A whole tree. system: a system message, which becomes the root; empty for none."""
    if system:
        made = StoredMessage(f"{root['message_id']}-system", None, "user", system)
        root = {**as_oasst_message(made, None), "role": "system", "replies": [{**root, "parent_id": made.id}]}
    return {"message_tree_id": root["message_id"], "tree_state": "ready_for_export", "prompt": root}


def as_oasst_message(message: StoredMessage, rank: int | None) -> Content:
    """A message without its replies. A vote is an emoji, and a label of quality."""
    made = datetime.fromtimestamp(message.created / 1000, UTC).isoformat()
    votes = {"+1": int(message.vote > 0), "-1": int(message.vote < 0)}
    written = message.role == "assistant" and message.edit_of is None
    return {
        "message_id": message.id,
        "parent_id": message.parent,
        "created_date": made,
        "text": message.text,
        "role": ROLE_NAMES[message.role],
        "lang": None,
        "review_count": 0,
        "review_result": True,
        "deleted": False,
        "rank": rank,
        "synthetic": written,
        "model_name": message.model or None,
        "emojis": {name: count for name, count in votes.items() if count},
        "labels": {"quality": {"value": float(message.vote > 0), "count": 1}} if message.vote else {},
        **({"context": message.context} if message.context else {}),
        "replies": [],
    }


def is_nestable(tree: Content) -> bool:
    """Whether no path of a tree has more than ``DEEPEST`` messages, so that a line of JSON can have the whole tree."""
    level, depth = [tree["prompt"]], 0
    while level:
        level, depth = [reply for content in level for reply in content["replies"]], depth + 1
    return depth <= DEEPEST


def as_lines(trees: Sequence[Content]) -> tuple[list[Content], bool]:
    """What the lines of a file with these trees are, and whether they are trees.

    They are the rows of all trees if one of them is too deep, because a reader reads one form.
    """
    nested = all(map(is_nestable, trees))
    return list(trees) if nested else [row for tree in trees for row in as_rows(tree)], nested


def as_rows(tree: Content) -> Iterator[Content]:
    """The messages of a tree as rows, the form of OpenAssistant's data on the hub, which may be of any depth."""
    named = {name: value for name, value in tree.items() if name != "prompt"}
    waiting = [tree["prompt"]]
    while waiting:
        content = waiting.pop(0)
        yield {**named, **{name: value for name, value in content.items() if name != "replies"}}
        waiting[:0] = content["replies"]


def is_oasst_row(record: Mapping[str, Any]) -> bool:
    """Whether this is one message of a tree whose messages are rows."""
    return "message_tree_id" in record and "prompt" not in record and "replies" not in record


def join_rows(rows: Sequence[tuple[str, Content]]) -> Content:
    """The tree whose messages are these rows. rows: (place, row). Raises DataError, with the place of the wrong row."""
    contents: dict[str, Content] = {}
    for place, row in rows:
        identity = row.get("message_id")
        if not isinstance(identity, str) or identity in contents:
            raise DataError("message_id is missing, or occurs twice in its tree", where=place, advice=ADVICE)
        contents[identity] = {**row, "replies": []}
    roots = []
    for place, row in rows:
        parent, content = row.get("parent_id"), contents[row["message_id"]]
        if parent is None:
            roots.append(content)
        elif isinstance(parent, str) and parent in contents:
            contents[parent]["replies"].append(content)
        else:
            what = "parent_id names no message of the same tree"
            raise DataError(what, where=place, advice="import all rows of a tree in one file")
    if len(roots) != 1:
        what = f"{len(roots)} messages of this tree answer none, but one must"
        raise DataError(what, where=rows[0][0], advice=ADVICE)
    return {"prompt": roots[0]}


def read_oasst_tree(
    record: Mapping[str, Any], place: str, places: Mapping[str, str] | None = None
) -> tuple[StoredConversation, list[StoredMessage]]:
    """The conversation of a tree, or of its first message with all below it; deleted messages are left out.

    Of siblings with ranks the best ones are chosen. places: id of a message -> its line, where each has one. Raises
    DataError.
    """
    root = record.get("prompt", record)
    if not isinstance(root, dict) or "role" not in root:
        raise DataError("this is no conversation", where=place, advice=ADVICE)
    system, firsts = "", [root]
    if root.get("role") == "system":
        system, firsts = _text(root, place), _replies(root, place)
    waiting: list[tuple[Content, str | None]] = [(first, None) for first in firsts]
    found: list[StoredMessage] = []
    while waiting:
        content, parent = waiting.pop(0)
        if content.get("deleted"):
            continue
        where = (places or {}).get(str(content.get("message_id")), place)
        message = _read_message(content, parent, where, system)
        found.append(message)
        waiting[:0] = [(reply, message.id) for reply in _replies(content, place)]
    title = title_of(found[0].text) if found else ""
    conversation = StoredConversation(new_id(), title, system, False, now(), now())
    return conversation, _with_choices(found, _ranks(root, place))


def _read_message(content: Content, parent: str | None, place: str, system: str) -> StoredMessage:
    role = content.get("role")
    if not isinstance(role, str) or role not in ROLES or ROLES[role] not in get_args(MessageRole):
        raise DataError(f"the role of a message is {str(role)[:40]!r}", where=place, advice=ADVICE)
    identity = content.get("message_id")
    if not isinstance(identity, str) or not identity:
        raise DataError("a message has no message_id", where=place, advice=ADVICE)
    is_reply, model = role == "assistant", content.get("model_name")
    return StoredMessage(
        identity, parent, "assistant" if is_reply else "user", _text(content, place), created=now(),
        context=content["context"] if isinstance(content.get("context"), str) else "",
        model=model if is_reply and isinstance(model, str) else "", system=system if is_reply else "",
        vote=_vote(content) if is_reply else 0,
    )  # fmt: skip


def _vote(content: Content) -> int:
    """1 if most votes are up, -1 if most are down, otherwise 0."""
    emojis = content.get("emojis")
    counts = [emojis.get(name) if isinstance(emojis, dict) else 0 for name in ("+1", "-1")]
    up, down = (count if isinstance(count, int) else 0 for count in counts)
    return (up > down) - (up < down)


def _ranks(root: Content, place: str) -> dict[str, int]:
    """The ranks of all messages that have one."""
    found, waiting = dict[str, int](), [root]
    while waiting:
        content = waiting.pop()
        if type(content.get("rank")) is int:
            found[str(content.get("message_id"))] = content["rank"]
        waiting += _replies(content, place)
    return found


def _with_choices(messages: Sequence[StoredMessage], ranks: Mapping[str, int]) -> list[StoredMessage]:
    """The messages with those of the best rank chosen, if a sibling has another rank."""
    groups: dict[str | None, list[int]] = {}
    for message in messages:
        if message.role == "assistant" and message.id in ranks:
            groups.setdefault(message.parent, []).append(ranks[message.id])
    sets = {parent: new_id() for parent, found in groups.items() if len(set(found)) > 1}
    made = []
    for message in messages:
        if message.id in ranks and message.parent in sets and message.role == "assistant":
            chosen = ranks[message.id] == min(groups[message.parent])
            message = replace(message, drafts=sets[message.parent], chosen=chosen, shown=chosen)
        made.append(message)
    return made


def _text(content: Content, place: str) -> str:
    if not isinstance(content.get("text"), str):
        raise DataError(f"the text of a message is {type_name(content.get('text'))}", where=place, advice=ADVICE)
    return str(content["text"])


def _replies(content: Content, place: str) -> list[Content]:
    replies = content.get("replies") or []
    if not isinstance(replies, list) or not all(isinstance(reply, dict) for reply in replies):
        raise DataError("the replies of a message are no list of messages", where=place, advice=ADVICE)
    return replies
