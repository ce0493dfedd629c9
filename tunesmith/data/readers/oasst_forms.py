"""The forms in which OpenAssistant's messages are stored: nested trees, threads, and rows of single messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tunesmith.data.readers.oasst import (
    MESSAGE_KEYS,
    OASST_OPTIONS,
    OasstNode,
    message_error,
    message_name,
    select_messages,
)
from tunesmith.data.readers.reader import Contents, Reader, ReadResult, ReadTree, Settings, field_names
from tunesmith.data.sources.rows import RowGroup
from tunesmith.data.sources.strict_json import type_name
from tunesmith.errors import DataError


def oasst(settings: Settings, row: Mapping[str, Any]) -> ReadResult:
    """One tree a row, in one of three forms:

    {tree_state, prompt: {message_id, text, role, lang, rank, review_result, deleted, synthetic, labels, replies:
    [..]}}, the prompt's message itself with its replies, or {thread_id, thread: [message, ..]}.

    Threads of one tree have their first messages in common, so they are one group (``Tree.group``).
    Early exports have neither tree_state nor review_result: options ``states`` null and ``reviewed`` false read them.
    The options are those of ``oasst.select_messages``. Ranks may have gaps and ties, as in the export.
    """
    column = settings.columns["prompt"]
    if column not in row and "thread" in row:
        nodes = _thread(row["thread"])
        result = select_messages(settings, row if settings.columns["tree_state"] in row else nodes[0].content, nodes)
        return _grouped(result, [row.get("message_tree_id"), *map(nodes[0].content.get, TREE_NAMES)])
    root = row if column not in row and "replies" in row else row.get(column)
    if not isinstance(root, dict):
        if "message_id" in row:
            advice = "single messages are read by oasst-messages"
        else:
            advice = f"the row has {field_names(row)}; see fields of reader oasst"
        found = type_name(root) if column in row else "missing"
        raise DataError(f"field {column!r} is {found}, not a message", advice=advice)
    return select_messages(settings, row, _nested(root))


def _grouped(result: ReadResult, names: Sequence[Any]) -> ReadResult:
    """The tree of a thread with the name of its whole tree as its group. names: the first that is text counts."""
    group = next((name for name in names if isinstance(name, str) and name), "")
    return replace(result, tree=replace(result.tree, group=group)) if isinstance(result, ReadTree) else result


def oasst_messages(settings: Settings, group: RowGroup) -> ReadResult:
    """One message a row, in any order, as on the hub; the rows of one ``message_tree_id`` are grouped.

    Replies keep the order of their rows. Options as for ``oasst``.
    Raises DataError with the place of the wrong message's row.
    """
    nodes = _assembled(group)
    return select_messages(settings, nodes[0].content, nodes)


def _nested(root: Mapping[str, Any]) -> list[OasstNode]:
    """All messages in depth-first order, walked without recursion. Raises DataError where they are not one tree."""
    nodes: list[OasstNode] = []
    identities: set[str] = set()
    waiting = [OasstNode(root, -1, 1)]
    while waiting:
        node = waiting.pop()
        index = len(nodes)
        nodes.append(node)
        _check_identity(nodes, index, identities)
        replies = node.content.get("replies") or []
        if not isinstance(replies, list) or not all(isinstance(reply, dict) for reply in replies):
            raise message_error(nodes, index, f"replies of {message_name(node.content)} are not a list of messages")
        waiting.extend(OasstNode(reply, index, len(replies)) for reply in reversed(replies))
    return nodes


def _thread(messages: Any) -> list[OasstNode]:
    """The messages of a thread, from the root on, each a reply to the one before. Raises DataError."""
    if not isinstance(messages, list) or not messages:
        raise DataError("field 'thread' is " + ("empty" if messages == [] else f"{type_name(messages)}, not a list"))
    nodes: list[OasstNode] = []
    identities: set[str] = set()
    for index, message in enumerate(messages):
        if not isinstance(message, dict):
            raise DataError(f"thread[{index}] is {type_name(message)}, not a message")
        nodes.append(OasstNode(message, index - 1, 1))
        _check_identity(nodes, index, identities)
    return nodes


def _check_identity(nodes: Sequence[OasstNode], index: int, identities: set[str]) -> None:
    """Raises DataError if an id occurs twice, or if parent_id is given and is not the id of the message above."""
    node = nodes[index]
    identity, above = node.content.get("message_id"), node.content.get("parent_id")
    if isinstance(identity, str):
        if identity in identities:
            what = f"{message_name(node.content)} occurs twice in the tree"
            raise message_error(nodes, index, what, "give every message a different id")
        identities.add(identity)
    expected = nodes[node.parent].content.get("message_id") if node.parent >= 0 else None
    if above is not None and above != expected:
        what = f"{message_name(node.content)} names {above!r} as its parent, but is below {expected!r}"
        raise message_error(nodes, index, what, "correct parent_id")


def _assembled(group: RowGroup) -> list[OasstNode]:
    """The rows of a group as messages in depth-first order. Raises DataError where they are not one complete tree."""
    rows: dict[str, int] = {}
    for index, row in enumerate(group.rows):
        identity = row.get("message_id")
        if not isinstance(identity, str) or not identity:
            found = type_name(identity) if "message_id" in row else "missing"
            raise DataError(f"field 'message_id' is {found}, not text", where=group.places[index])
        if identity in rows:
            what = f"message {identity!r} occurs twice in the tree, first at {group.places[rows[identity]]}"
            raise DataError(what, where=group.places[index], advice="give every message a different id")
        rows[identity] = index
    roots: list[int] = []
    replies: dict[int, list[int]] = {}
    for index, row in enumerate(group.rows):
        above = row.get("parent_id")
        if above is None:
            roots.append(index)
        elif not isinstance(above, str) or above not in rows:
            what = f"{message_name(row)} answers {above!r}, which does not exist"
            raise DataError(what, where=group.places[index], advice="the tree is incomplete; export it again")
        else:
            replies.setdefault(rows[above], []).append(index)
    if len(roots) > 1:
        first, second = (message_name(group.rows[index]) for index in roots[:2])
        raise DataError(f"{first} and {second} are both roots of one tree", where=group.places[roots[1]])
    nodes: list[OasstNode] = []
    reached: set[int] = set()
    waiting = [(root, -1, 1) for root in roots]
    while waiting:
        index, parent, siblings = waiting.pop()
        reached.add(index)
        below = [(reply, len(nodes), len(replies[index])) for reply in replies.get(index, ())]
        nodes.append(OasstNode(group.rows[index], parent, siblings, group.places[index]))
        waiting.extend(reversed(below))
    if len(reached) < len(group.rows):
        raise _cycle_error(group, rows, next(index for index in range(len(group.rows)) if index not in reached))
    return nodes


def _cycle_error(group: RowGroup, rows: Mapping[str, int], start: int) -> DataError:
    """The error of messages that answer each other in a cycle. start: a message that no root leads to."""
    path: dict[int, None] = {}
    index = start
    while index not in path:
        path[index] = None
        index = rows[group.rows[index]["parent_id"]]
    order = list(path)
    names = [repr(group.rows[item]["message_id"]) for item in [*order[order.index(index) :], index]]
    shown = names if len(names) <= 6 else [*names[:3], "..", *names[-2:]]
    what = f"{message_name(group.rows[index])} answers itself ({' answers '.join(shown)})"
    return DataError(what, where=group.places[index], advice="correct parent_id; the first message has none")


TREE_NAMES = ("message_tree_id", "message_id", "text")  # of a root: any of them names its tree
MESSAGE: dict[str, Contents | None] = dict.fromkeys((*MESSAGE_KEYS, "message_tree_id", "tree_state"))
MESSAGE["replies"] = MESSAGE  # to any depth

OASST: dict[str, Reader] = {
    "oasst": Reader(
        oasst,
        ("prompt", "tree_state"),
        OASST_OPTIONS,
        inner={"prompt": MESSAGE, "thread": MESSAGE, "replies": MESSAGE},
        also=(*MESSAGE_KEYS, "message_tree_id", "thread_id", "thread", "replies"),
        system=False,
    ),
    "oasst-messages": Reader(
        oasst_messages,
        ("message_tree_id", "tree_state"),
        OASST_OPTIONS,
        group="message_tree_id",
        also=MESSAGE_KEYS,
        system=False,
    ),
}
