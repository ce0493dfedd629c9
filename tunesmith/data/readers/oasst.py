"""OpenAssistant's message trees: which of their messages are kept. ``oasst_forms`` reads the trees from rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tunesmith.data.readers.reader import Filtered, Option, ReadResult, ReadTree, Settings, choice, flag, text_list
from tunesmith.data.sources.strict_json import type_name
from tunesmith.errors import DataError
from tunesmith.text.tree import Message, Role, Tree

ROLES: dict[str, Role] = {"prompter": "user", "assistant": "assistant", "system": "system"}
ROLE_NAMES: dict[Role, str] = {role: name for name, role in ROLES.items()}
"""Role -> its name in the trees."""

SHOWN_IDS = 6  # of a path in an error message
MESSAGE_KEYS = (
    *("message_id", "parent_id", "text", "role", "lang", "rank", "review_result"),
    *("deleted", "synthetic", "labels", "context"),
)
"""The keys of a message that are read here."""

HIGHEST_LABEL = 1e6  # labels are between 0 and 1, but nothing here depends on it

OASST_OPTIONS: dict[str, Option] = {
    "lang": text_list(None),
    "top_k": Option(
        None, lambda value: value is None or (type(value) is int and value > 0), "a number above 0, or null"
    ),
    "states": text_list(("ready_for_export",)),
    "reviewed": flag(True),
    "synthetic": flag(False),
    "keep": choice("threads", "rankings", "prompts"),
}


class OasstNode(NamedTuple):
    """A message of the export.

    content: its object.
    parent: index of the message that it answers, -1 for the root.
    siblings: the number of replies to that parent, itself included.
    place: of its row, where every message is a row; otherwise None.
    """

    content: Mapping[str, Any]
    parent: int
    siblings: int
    place: str | None = None


def select_messages(settings: Settings, holder: Mapping[str, Any], nodes: Sequence[OasstNode]) -> ReadResult:
    """The tree of the messages that are kept.

    holder: the object with ``tree_state``.
    nodes: all messages in depth-first order.

    Options:
    states: of trees that are read; null for any.
    reviewed: the root must have passed its review.
    lang: of the root; null for any.
    synthetic: keep messages written by a model.
    top_k: keep only replies of a rank below it; an assistant reply without a rank is kept only if it has no siblings.
    keep: ``threads``, for demonstrations: a prompt without an answer is dropped; the tree has exactly the messages of
        the threads that are left, shared ones once, replies in the order of the file. ``rankings``, for preferences:
        prompts with two or more ranked replies, these replies (the best first, whatever ``top_k`` is) and the messages
        before them. ``prompts``, for methods that sample the answers: all prompts and the messages before them, also
        those without an answer, whatever ``top_k`` is.

    A message that is deleted, synthetic or out of rank is dropped with all below it.
    Raises DataError.
    """
    if reason := _filter_reason(settings, holder, nodes[0]):
        return Filtered(reason)
    for index in range(len(nodes)):
        _check_role(nodes, index)
    reasons = _dropped(settings, nodes)
    ranks = [_rank(nodes, index) if not reason else None for index, reason in enumerate(reasons)]
    if settings.options["keep"] == "threads":
        _drop_unneeded(nodes, reasons, _kept_by_role(nodes, reasons, "assistant"), "not answered")
    elif settings.options["keep"] == "rankings":
        _drop_unneeded(nodes, reasons, _ranked(nodes, reasons, ranks), "not ranked")
    else:
        _drop_unneeded(nodes, reasons, _kept_by_role(nodes, reasons, "prompter"), "no question follows")
    if reasons[0]:
        return Filtered(f"root {reasons[0]}")
    order = list(_order(nodes, reasons, ranks if settings.options["keep"] == "rankings" else None))
    position = {index: number for number, index in enumerate(order)} | {-1: -1}
    messages = tuple(_message(nodes, index, ranks[index]) for index in order)
    tree = Tree(messages, tuple(position[nodes[index].parent] for index in order))
    return ReadTree(tree, Counter(reason for reason in reasons if reason))


def _filter_reason(settings: Settings, holder: Mapping[str, Any], first: OasstNode) -> str | None:
    """Why the whole tree is filtered, or None. Raises DataError if the data have no states."""
    options, root, column = settings.options, first.content, settings.columns["tree_state"]
    if options["states"] is not None:
        state = holder.get(column)
        if column not in holder:
            advice = "set options.states to null (and options.reviewed to false if review_result is missing, too)"
            raise DataError(f"field {column!r} is missing", where=first.place, advice=advice)
        if state not in options["states"]:
            return f"tree_state {state}" if isinstance(state, str) else "no tree_state"
    if options["reviewed"] and not root.get("review_result"):
        return "root did not pass its review"
    if options["lang"] is not None and root.get("lang") not in options["lang"]:
        return f"language {root['lang']}" if isinstance(root.get("lang"), str) else "no language"
    return None


def _dropped(settings: Settings, nodes: Sequence[OasstNode]) -> list[str]:
    """For every message why it is dropped with all below it, or an empty text."""
    rankings = settings.options["keep"] == "rankings"
    reasons: list[str] = []
    below: list[str] = []  # why everything below a message is dropped
    for index, node in enumerate(nodes):
        reason = below[node.parent] if node.parent >= 0 else ""
        low_rank = "" if reason else _rank_reason(settings, nodes, index)
        reason = reason or _content_reason(settings, node.content) or ("" if rankings else low_rank)
        reasons.append(reason)
        below.append(reason or low_rank)
    return reasons


def _content_reason(settings: Settings, content: Mapping[str, Any]) -> str:
    """Why a message is dropped for its own state, or an empty text."""
    if content.get("deleted"):
        return "deleted"
    return "synthetic" if content.get("synthetic") and not settings.options["synthetic"] else ""


def _rank_reason(settings: Settings, nodes: Sequence[OasstNode], index: int) -> str:
    """Why an assistant reply is dropped for its rank, or an empty text."""
    top_k = settings.options["top_k"]
    if top_k is None or settings.options["keep"] == "prompts" or nodes[index].content.get("role") != "assistant":
        return ""
    rank = _rank(nodes, index)
    return f"not among the best {top_k}" if (rank >= top_k if rank is not None else nodes[index].siblings > 1) else ""


def _drop_unneeded(nodes: Sequence[OasstNode], reasons: list[str], wanted: Sequence[bool], reason: str) -> None:
    """Give ``reason`` to every message that is not wanted and has no wanted message below it."""
    needed = list(wanted)
    for index in range(len(nodes) - 1, 0, -1):
        if needed[index]:
            needed[nodes[index].parent] = True
    for index, is_needed in enumerate(needed):
        if not is_needed:
            reasons[index] = reasons[index] or reason


def _kept_by_role(nodes: Sequence[OasstNode], reasons: Sequence[str], role: str) -> list[bool]:
    """Which messages are of a role and have no reason to be dropped."""
    return [not reason and node.content.get("role") == role for node, reason in zip(nodes, reasons, strict=True)]


def _ranked(nodes: Sequence[OasstNode], reasons: Sequence[str], ranks: Sequence[int | None]) -> list[bool]:
    """Which messages are ranked replies with another ranked reply to the same message."""
    candidates = [
        not reason and rank is not None and node.parent >= 0 and node.content.get("role") == "assistant"
        for node, reason, rank in zip(nodes, reasons, ranks, strict=True)
    ]
    ranked = Counter(node.parent for node, candidate in zip(nodes, candidates, strict=True) if candidate)
    return [candidate and ranked[node.parent] > 1 for node, candidate in zip(nodes, candidates, strict=True)]


def _order(nodes: Sequence[OasstNode], reasons: Sequence[str], ranks: Sequence[int | None] | None) -> Iterator[int]:
    """The messages that are kept, depth first; siblings as in the file, or the best first if ranks are given."""
    replies: dict[int, list[int]] = {}
    for index, reason in enumerate(reasons):
        if not reason:
            replies.setdefault(nodes[index].parent, []).append(index)
    waiting = [0]
    while waiting:
        index = waiting.pop()
        yield index
        found = replies.get(index, [])
        if ranks is not None:
            found = sorted(found, key=lambda reply: (ranks[reply] is None, ranks[reply] or 0))
        waiting.extend(reversed(found))


def message_error(nodes: Sequence[OasstNode], index: int, what: str, advice: str | None = None) -> DataError:
    """The error of one message, with the ids on the path to it.

    index: of the message.
    what: the error; it has the name of the message.
    advice: what to do.
    """
    path, above = [], index
    while above >= 0:
        path.append(str(nodes[above].content.get("message_id")))
        above = nodes[above].parent
    path.reverse()
    shown = path if len(path) <= SHOWN_IDS else [*path[:2], "..", *path[2 - SHOWN_IDS :]]
    within = f" ({' > '.join(repr(name) for name in shown)})" if len(path) > 1 else ""
    return DataError(f"{what}{within}", where=nodes[index].place, advice=advice)


def message_name(content: Mapping[str, Any]) -> str:
    """The name of a message in errors."""
    return f"message {content.get('message_id', 'without id')!r}"


def _check_role(nodes: Sequence[OasstNode], index: int) -> None:
    """Raises DataError for an unknown role.

    Messages that are dropped are checked as well: a misspelt role must not be counted as a prompt without an answer.
    """
    content = nodes[index].content
    role = content.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise message_error(
            nodes, index, f"{message_name(content)} has the role {role!r}", f"known are {', '.join(ROLES)}"
        )
    if role == "system" and nodes[index].parent >= 0:
        what = f"{message_name(content)} has the role 'system', but is not the root"
        raise message_error(nodes, index, what, "a system message comes first")


def _message(nodes: Sequence[OasstNode], index: int, rank: int | None) -> Message:
    """The message of a node. Raises DataError with its id."""
    content = nodes[index].content
    name, text, lang = message_name(content), content.get("text"), content.get("lang")
    if not isinstance(text, str):
        advice = "only plain text is read; nothing is converted"
        raise message_error(nodes, index, f"the text of {name} is {type_name(text)}, not text", advice)
    if not text.strip():
        raise message_error(nodes, index, f"the text of {name} is empty", "mark it as deleted, or remove it")
    if lang is not None and not isinstance(lang, str):
        raise message_error(nodes, index, f"the language of {name} is {type_name(lang)}, not text")
    context = content.get("context")
    if context is not None and not isinstance(context, str):
        raise message_error(nodes, index, f"the context of {name} is {type_name(context)}, not text")
    labels = dict(_labels(nodes, index, name))
    return Message(ROLES[content["role"]], text, context or "", rank=rank, lang=lang, labels=labels)


def _rank(nodes: Sequence[OasstNode], index: int) -> int | None:
    rank = nodes[index].content.get("rank")
    if rank is not None and (type(rank) is not int or rank < 0):
        what = f"the rank of {message_name(nodes[index].content)} is {rank!r}"
        raise message_error(nodes, index, what, "it must be null or a whole number; 0 is the best")
    return rank


def _labels(nodes: Sequence[OasstNode], index: int, name: str) -> Iterator[tuple[str, float]]:
    """Names and values of the labels of a message.

    They are {name: {value, count}}, or on the hub the columns {name: [], value: []}. Raises DataError.
    """
    labels = nodes[index].content.get("labels") or {}
    if not isinstance(labels, dict):
        raise message_error(nodes, index, f"the labels of {name} are {type_name(labels)}, not an object")
    names, values = labels.get("name"), labels.get("value")
    if isinstance(names, list) and isinstance(values, list):
        if len(names) != len(values) or not all(isinstance(item, str) for item in names):
            raise message_error(nodes, index, f"the labels of {name} have {len(names)} names and {len(values)} values")
        entries = [(item, {"value": value}) for item, value in zip(names, values, strict=True)]
    else:
        entries = list(labels.items())
    for item, entry in entries:
        value = entry.get("value", "none") if isinstance(entry, dict) else "none"
        if entry is None or value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= HIGHEST_LABEL:
            advice = 'labels are {"quality": {"value": 0.5, "count": 3}}'
            raise message_error(nodes, index, f"label {item!r} of {name} has no number as its value", advice)
        yield item, float(value)
