"""The forms in which OpenAssistant's messages are stored: nested trees, threads, and rows of single messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tunesmith.data.readers.oasst import OASST_OPTIONS, Node, fault, label, pruned
from tunesmith.data.readers.reader import Group, Outcome, Reader, Settings
from tunesmith.data.sources.strict_json import kind
from tunesmith.errors import DataError


def oasst(settings: Settings, row: Mapping[str, Any]) -> Outcome:
    """One tree a row: {tree_state, prompt: {message_id, text, role, lang, rank, review_result, deleted, synthetic,
    labels, replies: [..]}}, or the prompt's message itself with its replies, or {thread_id, thread: [message, ..]}.

    Early exports have neither tree_state nor review_result: options ``states`` null and ``reviewed`` false read them. For the
    other options see ``oasst.pruned``. Ranks may have gaps and ties, as those of the export have.
    """
    column = settings.columns["prompt"]
    if column not in row and "thread" in row:
        nodes = _thread(row["thread"])
        return pruned(settings, row if settings.columns["tree_state"] in row else nodes[0].content, nodes)
    root = row if column not in row and "replies" in row else row.get(column)
    if not isinstance(root, dict):
        if "message_id" in row:
            advice = "single messages are read by oasst-messages"
        else:
            advice = f"the row has {', '.join(sorted(map(str, row))[:12]) or 'no fields'}; see fields of reader oasst"
        found = kind(root) if column in row else "missing"
        raise DataError(f"field {column!r} is {found}, not a message", advice=advice)
    return pruned(settings, row, _nested(root))


def oasst_messages(settings: Settings, group: Group) -> Outcome:
    """One message a row, in any order, as on the hub; the rows of one ``message_tree_id`` are put together.

    Replies keep the order of their rows. Options as for ``oasst``. Raises DataError at the row of the message at fault.
    """
    nodes = _assembled(group)
    return pruned(settings, nodes[0].content, nodes)


def _nested(root: Mapping[str, Any]) -> list[Node]:
    """All messages in depth-first order, walked without recursion. Raises DataError where they are not one tree."""
    nodes: list[Node] = []
    identities: set[str] = set()
    waiting = [Node(root, -1, 1)]
    while waiting:
        node = waiting.pop()
        index = len(nodes)
        nodes.append(node)
        _check_identity(nodes, index, identities)
        replies = node.content.get("replies") or []
        if not isinstance(replies, list) or not all(isinstance(reply, dict) for reply in replies):
            raise fault(nodes, index, f"replies of {label(node.content)} are not a list of messages")
        waiting.extend(Node(reply, index, len(replies)) for reply in reversed(replies))
    return nodes


def _thread(messages: Any) -> list[Node]:
    """The messages of a thread, from the root on, each a reply to the one before. Raises DataError."""
    if not isinstance(messages, list) or not messages:
        raise DataError("field 'thread' is " + ("empty" if messages == [] else f"{kind(messages)}, not a list"))
    nodes: list[Node] = []
    identities: set[str] = set()
    for index, message in enumerate(messages):
        if not isinstance(message, dict):
            raise DataError(f"thread[{index}] is {kind(message)}, not a message")
        nodes.append(Node(message, index - 1, 1))
        _check_identity(nodes, index, identities)
    return nodes


def _check_identity(nodes: Sequence[Node], index: int, identities: set[str]) -> None:
    """Every id is there once, and parent_id, where it is given, names the message above. Raises DataError."""
    node = nodes[index]
    identity, above = node.content.get("message_id"), node.content.get("parent_id")
    if isinstance(identity, str):
        if identity in identities:
            what = f"{label(node.content)} occurs twice in the tree"
            raise fault(nodes, index, what, "every message has an id of its own")
        identities.add(identity)
    expected = nodes[node.parent].content.get("message_id") if node.parent >= 0 else None
    if above is not None and above != expected:
        what = f"{label(node.content)} names {above!r} as its parent but stands below {expected!r}"
        raise fault(nodes, index, what, "mend parent_id")


def _assembled(group: Group) -> list[Node]:
    """The rows of a group as messages in depth-first order. Raises DataError where they are not one whole tree."""
    rows: dict[str, int] = {}
    for index, row in enumerate(group.rows):
        identity = row.get("message_id")
        if not isinstance(identity, str) or not identity:
            found = kind(identity) if "message_id" in row else "missing"
            raise DataError(f"field 'message_id' is {found}, not text", where=group.places[index])
        if identity in rows:
            what = f"message {identity!r} occurs twice in the tree, first at {group.places[rows[identity]]}"
            raise DataError(what, where=group.places[index], advice="every message has an id of its own")
        rows[identity] = index
    roots: list[int] = []
    replies: dict[int, list[int]] = {}
    for index, row in enumerate(group.rows):
        above = row.get("parent_id")
        if above is None:
            roots.append(index)
        elif not isinstance(above, str) or above not in rows:
            what = f"{label(row)} answers {above!r}, which is not there"
            raise DataError(what, where=group.places[index], advice="the tree is not whole; export it again")
        else:
            replies.setdefault(rows[above], []).append(index)
    if len(roots) > 1:
        first, second = (label(group.rows[index]) for index in roots[:2])
        raise DataError(f"{first} and {second} are both roots of one tree", where=group.places[roots[1]])
    nodes: list[Node] = []
    reached: set[int] = set()
    waiting = [(root, -1, 1) for root in roots]
    while waiting:
        index, parent, siblings = waiting.pop()
        reached.add(index)
        below = [(reply, len(nodes), len(replies[index])) for reply in replies.get(index, ())]
        nodes.append(Node(group.rows[index], parent, siblings, group.places[index]))
        waiting.extend(reversed(below))
    if len(reached) < len(group.rows):
        raise _circle(group, rows, next(index for index in range(len(group.rows)) if index not in reached))
    return nodes


def _circle(group: Group, rows: Mapping[str, int], start: int) -> DataError:
    """The error of messages that answer each other in a circle. start: a message that no root leads to."""
    path: dict[int, None] = {}
    index = start
    while index not in path:
        path[index] = None
        index = rows[group.rows[index]["parent_id"]]
    order = list(path)
    names = [repr(group.rows[item]["message_id"]) for item in [*order[order.index(index) :], index]]
    shown = names if len(names) <= 6 else [*names[:3], "..", *names[-2:]]
    what = f"{label(group.rows[index])} answers itself ({' answers '.join(shown)})"
    return DataError(what, where=group.places[index], advice="mend parent_id; the first message has none")


OASST: dict[str, Reader] = {
    "oasst": Reader(oasst, ("prompt", "tree_state"), OASST_OPTIONS),
    "oasst-messages": Reader(oasst_messages, ("message_tree_id", "tree_state"), OASST_OPTIONS, group="message_tree_id"),
}
