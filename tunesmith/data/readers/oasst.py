"""OpenAssistant's message trees: which of their messages are kept, and for what. ``oasst_forms`` reads them from rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tunesmith.data.readers.reader import Option, Outcome, Pruned, Rejected, Settings, choice, flag, texts
from tunesmith.data.sources.strict_json import kind
from tunesmith.errors import DataError
from tunesmith.text.tree import Message, Role, Tree

ROLES: dict[str, Role] = {"prompter": "user", "assistant": "assistant"}
SHOWN = 6  # ids of a path in a message
HIGHEST = 1e6  # of a label; they lie between 0 and 1, but nothing here depends on it

OASST_OPTIONS: dict[str, Option] = {
    "lang": texts(None),
    "top_k": Option(
        None, lambda value: value is None or (type(value) is int and value > 0), "a number above 0, or null"
    ),
    "states": texts(("ready_for_export",)),
    "reviewed": flag(True),
    "synthetic": flag(False),
    "keep": choice("threads", "rankings", "prompts"),
}


class Node(NamedTuple):
    """A message as it stands in the export. parent: its index, -1 for the root. siblings: replies to that parent.

    place: of its row, where messages have rows of their own.
    """

    content: Mapping[str, Any]
    parent: int
    siblings: int
    place: str | None = None


def pruned(settings: Settings, holder: Mapping[str, Any], nodes: Sequence[Node]) -> Outcome:
    """The tree of what is kept of all messages, which are in depth-first order. holder: the object with ``tree_state``.

    Options: ``states`` of trees that are read (null: any); ``reviewed``: the root must have passed its review; ``lang``
    of the root (null: any); ``synthetic``: keep messages written by a model; ``top_k``: only replies of a rank below it
    (an assistant reply without rank stays only if it has no siblings). A message that is deleted, synthetic or out of
    rank is dropped with all below it.

    ``keep`` threads, for demonstrations: a question that nobody answered is dropped; the tree has exactly the messages of
    the threads that are left, shared ones once, replies in the order of the file. rankings, for preferences: questions
    with two or more ranked replies, these replies (the best first, whatever ``top_k`` says of them) and what leads there.
    prompts, for methods that write their own answers: all questions and what leads there, also those without an answer,
    whatever ``top_k`` says.
    """
    if reason := _refusal(settings, holder, nodes[0]):
        return Rejected(reason)
    for index in range(len(nodes)):
        _check_role(nodes, index)
    reasons = _dropped(settings, nodes)
    ranks = [_rank(nodes, index) if not reason else None for index, reason in enumerate(reasons)]
    if settings.options["keep"] == "threads":
        _leave_out(nodes, reasons, _answers(nodes, reasons), "not answered")
    elif settings.options["keep"] == "rankings":
        _leave_out(nodes, reasons, _ranked(nodes, reasons, ranks), "not ranked")
    else:
        _leave_out(nodes, reasons, _questions(nodes, reasons), "no question follows")
    if reasons[0]:
        return Rejected(f"root {reasons[0]}")
    order = list(_order(nodes, reasons, ranks if settings.options["keep"] == "rankings" else None))
    place = {index: position for position, index in enumerate(order)} | {-1: -1}
    messages = tuple(_message(nodes, index, ranks[index]) for index in order)
    tree = Tree(messages, tuple(place[nodes[index].parent] for index in order))
    dropped = Counter(reason for reason in reasons if reason)
    return Pruned(tree, dropped) if dropped else tree


def _refusal(settings: Settings, holder: Mapping[str, Any], first: Node) -> str | None:
    """Why the whole tree is turned away, or nothing. Raises DataError if the data know no states."""
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


def _dropped(settings: Settings, nodes: Sequence[Node]) -> list[str]:
    """For every message why it is dropped with all below it, or nothing."""
    rankings = settings.options["keep"] == "rankings"
    reasons: list[str] = []
    below: list[str] = []  # why all that follows a message is dropped
    for index, node in enumerate(nodes):
        reason = below[node.parent] if node.parent >= 0 else ""
        late = "" if reason else _late(settings, nodes, index)
        reason = reason or _deleted(settings, node.content) or ("" if rankings else late)
        reasons.append(reason)
        below.append(reason or late)
    return reasons


def _deleted(settings: Settings, content: Mapping[str, Any]) -> str:
    if content.get("deleted"):
        return "deleted"
    return "synthetic" if content.get("synthetic") and not settings.options["synthetic"] else ""


def _late(settings: Settings, nodes: Sequence[Node], index: int) -> str:
    """Why an assistant reply is not among the best, or nothing."""
    top_k = settings.options["top_k"]
    if top_k is None or settings.options["keep"] == "prompts" or nodes[index].content.get("role") != "assistant":
        return ""
    rank = _rank(nodes, index)
    return f"not among the best {top_k}" if (rank >= top_k if rank is not None else nodes[index].siblings > 1) else ""


def _leave_out(nodes: Sequence[Node], reasons: list[str], wanted: Sequence[bool], reason: str) -> None:
    """Give ``reason`` to every message that is not wanted and has no wanted message below it."""
    needed = list(wanted)
    for index in range(len(nodes) - 1, 0, -1):
        if needed[index]:
            needed[nodes[index].parent] = True
    for index, is_needed in enumerate(needed):
        if not is_needed:
            reasons[index] = reasons[index] or reason


def _answers(nodes: Sequence[Node], reasons: Sequence[str]) -> list[bool]:
    return [not reason and node.content.get("role") == "assistant" for node, reason in zip(nodes, reasons, strict=True)]


def _questions(nodes: Sequence[Node], reasons: Sequence[str]) -> list[bool]:
    return [not reason and node.content.get("role") == "prompter" for node, reason in zip(nodes, reasons, strict=True)]


def _ranked(nodes: Sequence[Node], reasons: Sequence[str], ranks: Sequence[int | None]) -> list[bool]:
    """Which messages are ranked replies that have a ranked rival."""
    candidates = [
        not reason and rank is not None and node.parent >= 0 and node.content.get("role") == "assistant"
        for node, reason, rank in zip(nodes, reasons, ranks, strict=True)
    ]
    rivals = Counter(node.parent for node, candidate in zip(nodes, candidates, strict=True) if candidate)
    return [candidate and rivals[node.parent] > 1 for node, candidate in zip(nodes, candidates, strict=True)]


def _order(nodes: Sequence[Node], reasons: Sequence[str], ranks: Sequence[int | None] | None) -> Iterator[int]:
    """The messages that stay, depth first; siblings as in the file, or the best first if ranks are given."""
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


def fault(nodes: Sequence[Node], index: int, what: str, advice: str | None = None) -> DataError:
    """An error of one message, with the ids that lead to it. what: begins with the name of the message."""
    path, above = [], index
    while above >= 0:
        path.append(str(nodes[above].content.get("message_id")))
        above = nodes[above].parent
    path.reverse()
    shown = path if len(path) <= SHOWN else [*path[:2], "..", *path[2 - SHOWN :]]
    within = f" ({' > '.join(repr(name) for name in shown)})" if len(path) > 1 else ""
    return DataError(f"{what}{within}", where=nodes[index].place, advice=advice)


def label(content: Mapping[str, Any]) -> str:
    """The name of a message in errors."""
    return f"message {content.get('message_id', 'without id')!r}"


def _check_role(nodes: Sequence[Node], index: int) -> None:
    """Also of messages that are dropped: a role that is misspelt must not be counted as a question without an answer."""
    content = nodes[index].content
    role = content.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise fault(nodes, index, f"{label(content)} has the role {role!r}", f"known are {', '.join(ROLES)}")


def _message(nodes: Sequence[Node], index: int, rank: int | None) -> Message:
    """Raises DataError with the id of the message."""
    content = nodes[index].content
    name, text, lang = label(content), content.get("text"), content.get("lang")
    if not isinstance(text, str):
        advice = "only plain text is read; nothing is converted"
        raise fault(nodes, index, f"the text of {name} is {kind(text)}, not text", advice)
    if not text.strip():
        raise fault(nodes, index, f"the text of {name} is empty", "mark it as deleted, or remove it")
    if lang is not None and not isinstance(lang, str):
        raise fault(nodes, index, f"the language of {name} is {kind(lang)}, not text")
    return Message(ROLES[content["role"]], text, rank=rank, lang=lang, labels=dict(_labels(nodes, index, name)))


def _rank(nodes: Sequence[Node], index: int) -> int | None:
    rank = nodes[index].content.get("rank")
    if rank is not None and (type(rank) is not int or rank < 0):
        what = f"the rank of {label(nodes[index].content)} is {rank!r}"
        raise fault(nodes, index, what, "0 is the best, or null")
    return rank


def _labels(nodes: Sequence[Node], index: int, name: str) -> Iterator[tuple[str, float]]:
    """Names and values of the labels of a message: {name: {value, count}}, or the columns {name: [], value: []} of the hub."""
    labels = nodes[index].content.get("labels") or {}
    if not isinstance(labels, dict):
        raise fault(nodes, index, f"the labels of {name} are {kind(labels)}, not an object")
    names, values = labels.get("name"), labels.get("value")
    if isinstance(names, list) and isinstance(values, list):
        if len(names) != len(values) or not all(isinstance(item, str) for item in names):
            raise fault(nodes, index, f"the labels of {name} have {len(names)} names and {len(values)} values")
        entries = [(item, {"value": value}) for item, value in zip(names, values, strict=True)]
    else:
        entries = list(labels.items())
    for item, entry in entries:
        value = entry.get("value", "none") if isinstance(entry, dict) else "none"
        if entry is None or value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= HIGHEST:
            advice = 'labels are {"quality": {"value": 0.5, "count": 3}}'
            raise fault(nodes, index, f"label {item!r} of {name} has no number as its value", advice)
        yield item, float(value)
