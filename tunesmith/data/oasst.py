"""OpenAssistant's export of message trees: one row is one tree of nested replies, filtered message by message."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tunesmith.data.pruning import spread
from tunesmith.data.reading import Option, Outcome, Pruned, Rejected, Settings, as_text, flag, texts
from tunesmith.data.strict_json import kind
from tunesmith.errors import DataError
from tunesmith.text.tree import Message, Role, Tree

ROLES: dict[str, Role] = {"prompter": "user", "assistant": "assistant"}

OASST_OPTIONS: dict[str, Option] = {
    "lang": texts(None),
    "top_k": Option(
        None, lambda value: value is None or (type(value) is int and value > 0), "a number above 0, or null"
    ),
    "states": texts(("ready_for_export",)),
    "reviewed": flag(True),
    "synthetic": flag(False),
}


class _Node(NamedTuple):
    """A message as it stands in the export. parent: its index, -1 for the root. siblings: replies to that parent."""

    content: Mapping[str, Any]
    parent: int
    siblings: int


def oasst(settings: Settings, row: Mapping[str, Any]) -> Outcome:
    """{tree_state, prompt: {text, role, lang, rank, review_result, deleted, synthetic, labels, replies: [...]}}.

    Options: ``states`` of trees that are read (null: any); ``reviewed``: the root must have passed its review; ``lang``
    of the root (null: any); ``synthetic``: keep messages written by a model; ``top_k``: only replies of a rank below it
    (an assistant reply without rank stays only if it has no siblings). A message that is deleted, synthetic or out of
    rank is dropped with all below it, and so is a question that nobody answered. The tree has exactly the messages of
    the threads that are left, shared ones once, replies in the order of the file.
    """
    root = row.get(settings.columns["prompt"])
    if not isinstance(root, dict):
        advice = (
            "rows are trees, not single messages" if "replies" in row else "see options and fields of the reader oasst"
        )
        found = kind(root) if settings.columns["prompt"] in row else "missing"
        raise DataError(f"field {settings.columns['prompt']!r} is {found}, not a message", advice=advice)
    if reason := _refusal(settings, row, root):
        return Rejected(reason)
    nodes = _flat(root)
    reasons = _dropped(settings, nodes)
    if reasons[0]:
        return Rejected(f"root {reasons[0]}")
    kept = [index for index, reason in enumerate(reasons) if not reason]
    if not kept:
        return Rejected("no answer left")
    place = {index: position for position, index in enumerate(kept)} | {-1: -1}
    tree = Tree(
        tuple(_message(nodes[index].content) for index in kept), tuple(place[nodes[index].parent] for index in kept)
    )
    dropped = Counter(reason for reason in reasons if reason)
    return Pruned(tree, dropped) if dropped else tree


def _refusal(settings: Settings, row: Mapping[str, Any], root: Mapping[str, Any]) -> str | None:
    """Why the whole tree is turned away, or nothing."""
    options, state = settings.options, row.get(settings.columns["tree_state"])
    if options["states"] is not None and state not in options["states"]:
        return f"tree_state {state}" if isinstance(state, str) else "no tree_state"
    if options["reviewed"] and not root.get("review_result"):
        return "root did not pass its review"
    if options["lang"] is not None and root.get("lang") not in options["lang"]:
        return f"language {root['lang']}" if isinstance(root.get("lang"), str) else "no language"
    return None


def _flat(root: Mapping[str, Any]) -> list[_Node]:
    """All messages in depth-first order, walked without recursion. Raises DataError where they are not one tree."""
    nodes: list[_Node] = []
    identities: set[str] = set()
    waiting = [_Node(root, -1, 1)]
    while waiting:
        node = waiting.pop()
        index, label = len(nodes), _label(node.content)
        identity, above = node.content.get("message_id"), node.content.get("parent_id")
        if isinstance(identity, str):
            if identity in identities:
                raise DataError(f"{label} occurs twice in the tree", advice="every message has an id of its own")
            identities.add(identity)
        expected = nodes[node.parent].content.get("message_id") if node.parent >= 0 else None
        if above is not None and above != expected:
            raise DataError(
                f"{label} names {above!r} as its parent but stands below {expected!r}", advice="mend parent_id"
            )
        nodes.append(node)
        replies = node.content.get("replies") or []
        if not isinstance(replies, list) or not all(isinstance(reply, dict) for reply in replies):
            raise DataError(f"replies of {label} are not a list of messages")
        waiting.extend(_Node(reply, index, len(replies)) for reply in reversed(replies))
    return nodes


def _dropped(settings: Settings, nodes: Sequence[_Node]) -> list[str]:
    """For every message why it is dropped, or nothing."""
    own = [_own_reason(settings, node) for node in nodes]
    return spread([node.parent for node in nodes], own, [node.content.get("role") == "assistant" for node in nodes])


def _own_reason(settings: Settings, node: _Node) -> str:
    """Why this message is dropped with all below it, or nothing."""
    content, top_k = node.content, settings.options["top_k"]
    if content.get("deleted"):
        return "deleted"
    if content.get("synthetic") and not settings.options["synthetic"]:
        return "synthetic"
    if top_k is not None and content.get("role") == "assistant":
        rank = _rank(content)
        if rank >= top_k if rank is not None else node.siblings > 1:
            return f"not among the best {top_k}"
    return ""


def _message(content: Mapping[str, Any]) -> Message:
    """Raises DataError with the id of the message."""
    label, role, labels = _label(content), content.get("role"), content.get("labels") or {}
    if role not in ROLES:
        raise DataError(f"{label} has the role {role!r}", advice=f"known are {', '.join(ROLES)}")
    text = as_text(content.get("text"), f"the text of {label}")
    if not text.strip():
        raise DataError(f"the text of {label} is empty", advice="mark it as deleted, or remove it")
    lang = content.get("lang")
    if lang is not None and not isinstance(lang, str):
        raise DataError(f"the language of {label} is {kind(lang)}, not text")
    if not isinstance(labels, dict):
        raise DataError(f"the labels of {label} are {kind(labels)}, not an object")
    values = {name: _label_value(entry, f"{name!r} of {label}") for name, entry in labels.items() if entry is not None}
    return Message(ROLES[role], text, rank=_rank(content), lang=lang, labels=values)


def _rank(content: Mapping[str, Any]) -> int | None:
    rank = content.get("rank")
    if rank is not None and (type(rank) is not int or rank < 0):
        raise DataError(f"the rank of {_label(content)} is {rank!r}", advice="0 is the best, or null")
    return rank


def _label_value(entry: Any, what: str) -> float:
    value = entry.get("value") if isinstance(entry, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(
            f"label {what} has no number as its value", advice='labels are {"quality": {"value": 0.5, "count": 3}}'
        )
    return float(value)


def _label(content: Mapping[str, Any]) -> str:
    return f"message {content.get('message_id', 'without id')!r}"
