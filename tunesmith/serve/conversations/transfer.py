"""Conversations as files: our JSON lines, which lose nothing; OpenAssistant's trees; Markdown, which people read."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Literal

from tunesmith.data.sources.strict_json import RecordError, parse_record, type_name
from tunesmith.errors import DataError
from tunesmith.serve.conversations.oasst import (
    as_lines,
    as_oasst_trees,
    is_oasst_row,
    join_rows,
    read_oasst_tree,
)
from tunesmith.serve.conversations.records import (
    IDENTITY,
    LATEST,
    STATES,
    ConversationTree,
    StoredConversation,
    StoredMessage,
    depth_first,
    new_id,
    now,
    title_of,
)

TransferFormat = Literal["jsonl", "oasst", "markdown"]
KIND = "tunesmith conversation"
VERSION = 1
LARGEST_NUMBER = 2**63 - 1
MARK = "<!-- tunesmith"
MARK_LINE = re.compile(r"^<!-- tunesmith: (\{.*\}) -->$")
ESCAPED = re.compile(rf"^(\\*){MARK}")
"""A line of a message that would be read as a mark has a backslash before it."""

ADVICE = "import a file that was exported here, OpenAssistant's trees, or lines with a list of messages"


def export_conversations(trees: Iterator[ConversationTree], format: TransferFormat) -> Iterator[str]:
    """The lines of a file with these conversations; Markdown has only what is shown.

    OpenAssistant's trees become rows, one for each message, if one of them is too deep for a line.
    """
    if format == "oasst":
        lines, _ = as_lines([each for tree in trees for each in as_oasst_trees(tree)])
        yield from map(_line, lines)
        return
    writers: Mapping[str, Callable[[ConversationTree], Iterator[str]]] = {
        "jsonl": lambda tree: iter([_line(as_record(tree))]),
        "markdown": as_markdown,
    }
    for tree in trees:
        yield from writers[format](tree)


def import_conversations(text: str, place: str) -> list[ConversationTree]:
    """The conversations in a file of any of the three formats.

    place: the name of the file for errors.
    Raises DataError, with the line, before anything is returned.
    """
    if text.lstrip().startswith(MARK):
        return list(read_markdown(text, place))
    found: list[ConversationTree | str] = []  # of a tree whose messages are rows only its id, until all are read
    rows: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{place}:{number}"
        record = _parsed(line, where)
        if not is_oasst_row(record):
            found.append(_read_record(record, where))
            continue
        name = _value(record, "message_tree_id", str, None, where)
        if name not in rows:
            found.append(name)
        rows.setdefault(name, []).append((where, record))
    if not found:
        raise DataError("there is no conversation in this file", where=place, advice=ADVICE)
    return [_read_rows(rows[each]) if isinstance(each, str) else each for each in found]


def as_record(tree: ConversationTree) -> dict[str, Any]:
    """A conversation as an object that `read_record` reads."""
    messages = [
        {name: value for name, value in asdict(message).items() if name in ("id", "parent", "role", "text") or value}
        | ({"chosen": message.chosen} if message.chosen is not None else {})
        for message in tree.messages
    ]
    return {"kind": KIND, "version": VERSION, **asdict(tree.conversation), "messages": messages}


def read_record(record: Mapping[str, Any], place: str) -> ConversationTree:
    """A conversation from its object. Raises DataError for anything that is not as `as_record` writes it."""
    if record.get("version") != VERSION:
        what = f"version {record.get('version')!r} of an exported conversation is not known"
        raise DataError(what, where=place, advice="update Tunesmith")
    messages = record.get("messages")
    if not isinstance(messages, list):
        raise DataError(f"messages are {type_name(messages)}, not a list", where=place, advice=ADVICE)
    given = _value(record, "id", str, "", place)  # of another program it may be anything
    conversation = StoredConversation(
        id=given if re.fullmatch(IDENTITY, given) else new_id(),
        title=_value(record, "title", str, "", place),
        system=_value(record, "system", str, "", place),
        feedback=_value(record, "feedback", bool, False, place),
        created=_value(record, "created", int, now(), place),
        changed=_value(record, "changed", int, now(), place),
    )
    found = [_read_message(message, f"{place} messages[{number}]") for number, message in enumerate(messages)]
    return ConversationTree(conversation, tuple(normalised(found, place)))


def normalised(messages: list[StoredMessage], place: str) -> list[StoredMessage]:
    """The messages depth first, with exactly one shown of all siblings.

    Raises DataError for an id that occurs twice, an unknown parent, or messages that answer each other.
    """
    known = {message.id for message in messages}
    if len(known) < len(messages):
        raise DataError("two messages have the same id", where=place, advice=ADVICE)
    ordered = depth_first(messages)
    if len(ordered) < len(messages):
        raise DataError("a message answers one that does not exist", where=place, advice=ADVICE)
    shown: dict[str | None, str] = {}
    for message in ordered:
        if message.shown or message.parent not in shown:
            shown[message.parent] = message.id
    return [replace(message, shown=shown[message.parent] == message.id) for message in ordered]


def as_markdown(tree: ConversationTree) -> Iterator[str]:
    """The lines of what is shown of a conversation; marks, which are not rendered, let `read_markdown` read it."""
    head = {"title": tree.conversation.title, "system": tree.conversation.system}
    yield f"{MARK}: {_safe_json(head)} -->"
    yield f"# {' '.join(tree.conversation.title.split())}"
    for message in tree.shown_thread():
        named = {"model": message.model, "context": message.context, "state": message.state}
        yield ""
        yield f"{MARK}: {_safe_json({'role': message.role, **{k: v for k, v in named.items() if v}})} -->"
        yield "## You" if message.role == "user" else f"## {' '.join(message.model.split()) or 'Assistant'}"
        yield ""
        for line in message.text.split("\n"):
            yield f"\\{line}" if ESCAPED.match(line) else line
    yield ""


def read_markdown(text: str, place: str) -> Iterator[ConversationTree]:
    """The conversations that `as_markdown` wrote. Raises DataError."""
    conversation, messages, body = StoredConversation(new_id()), list[StoredMessage](), list[str]()
    begun = False

    def end() -> None:
        if messages:
            lines = body[2:-1] if body[-1:] == [""] else body[2:]  # without the heading and the empty lines
            messages[-1] = replace(messages[-1], text="\n".join(lines))
        body.clear()

    for number, line in enumerate(text.split("\n"), 1):
        mark = MARK_LINE.match(line)
        if mark is None:
            body.append(line[1:] if line.startswith("\\") and ESCAPED.match(line) else line)
            continue
        values = _parsed(mark.group(1), f"{place}:{number}")
        end()
        if "role" not in values:
            if begun:
                yield ConversationTree(conversation, tuple(messages))
            begun, messages = True, []
            title, system = (_value(values, name, str, "", place) for name in ("title", "system"))
            conversation = StoredConversation(new_id(), title, system, False, now(), now())
            continue
        parent = messages[-1].id if messages else None
        named = {name: values.get(name, "") for name in ("model", "context")} | {"state": values.get("state", "done")}
        made = {"id": new_id(), "parent": parent, "role": values["role"], "text": "", "shown": True, **named}
        messages.append(_read_message(made, f"{place}:{number}"))
    if body and messages and body[-1] == "":
        body.pop()  # after the last line of the file
    end()
    yield ConversationTree(conversation, tuple(messages))


def _read_rows(rows: Sequence[tuple[str, dict[str, Any]]]) -> ConversationTree:
    """The conversation whose messages are rows, as OpenAssistant's data on the hub has them. Raises DataError."""
    place, tree = rows[0][0], join_rows(rows)
    conversation, messages = read_oasst_tree(tree, place, {row["message_id"]: where for where, row in rows})
    return ConversationTree(conversation, tuple(normalised(messages, place)))


def _read_record(record: dict[str, Any], place: str) -> ConversationTree:
    if record.get("kind") == KIND:
        return read_record(record, place)
    if isinstance(record.get("messages"), list):
        return _read_chat(record["messages"], place)
    conversation, messages = read_oasst_tree(record, place)
    return ConversationTree(conversation, tuple(normalised(messages, place)))


def _read_chat(messages: list[Any], place: str) -> ConversationTree:
    """A list of messages with role and content, the form that most programs write. Raises DataError."""
    system, found = "", list[StoredMessage]()
    for number, message in enumerate(messages):
        where = f"{place} messages[{number}]"
        if not isinstance(message, dict):
            raise DataError(f"this is {type_name(message)}, not a message", where=where, advice=ADVICE)
        role, content = message.get("role"), message.get("content")
        if role in ("system", "developer") and number == 0 and isinstance(content, str):
            system = content
            continue
        context = message.get("context") or ""
        made = {"id": new_id(), "parent": found[-1].id if found else None, "role": role, "text": content}
        found.append(_read_message({**made, "context": context, "created": now(), "shown": True}, where))
    title = title_of(found[0].text) if found else ""
    return ConversationTree(StoredConversation(new_id(), title, system, False, now(), now()), tuple(found))


def _read_message(value: Any, place: str) -> StoredMessage:
    if not isinstance(value, dict):
        raise DataError(f"this is {type_name(value)}, not a message", where=place, advice=ADVICE)
    allowed: Mapping[str, Sequence[Any]] = {"role": ("user", "assistant"), "state": STATES, "vote": (0, 1, -1)}
    for name, known in allowed.items():
        if value.get(name, known[0]) not in known or (name == "role" and name not in value):
            what = f"{name} is {value.get(name)!r}, but must be one of {', '.join(map(str, known))}"
            raise DataError(what[:200], where=place, advice=ADVICE)
    sampling = value.get("sampling", {})
    if not isinstance(sampling, dict):
        raise DataError(f"sampling is {type_name(sampling)}, not an object", where=place, advice=ADVICE)
    texts = {name: _value(value, name, str, "", place) for name in ("context", "model", "system", "finish", "error")}
    numbers = ("created", "seed", "sample", "prompt_tokens", "tokens", "milliseconds", "dropped")
    return StoredMessage(
        id=_value(value, "id", str, None, place),
        parent=_value(value, "parent", str, "", place) or None,
        role=value["role"],
        text=_value(value, "text", str, None, place),
        shown=_value(value, "shown", bool, False, place),
        state=value.get("state", "done"),
        sampling=sampling,
        edit_of=_value(value, "edit_of", str, "", place) or None,
        drafts=_value(value, "drafts", str, "", place),
        chosen=_value(value, "chosen", bool, False, place) if value.get("chosen") is not None else None,
        vote=value.get("vote", 0),
        comment=_value(value, "comment", str, "", place),
        **texts,
        **{name: _value(value, name, int, 0, place) for name in numbers},
    )


def _value(values: Mapping[str, Any], name: str, kind: type, default: Any, place: str) -> Any:
    """A value of a kind; the default, where it is missing or null. Raises DataError."""
    value = values.get(name)
    if value is None and default is not None:
        return default
    largest = LATEST if name in ("created", "changed") else LARGEST_NUMBER
    if type(value) is not kind or (isinstance(value, int) and not 0 <= value <= largest):
        wanted = {str: "text", bool: "true or false", int: "a whole number"}[kind]
        found = repr(value)[:40] if isinstance(value, int | float) and math.isfinite(value) else type_name(value)
        raise DataError(f"{name} is {found}, but must be {wanted}", where=place, advice=ADVICE)
    return value


def _parsed(text: str, place: str) -> dict[str, Any]:
    try:
        return parse_record(text)
    except RecordError as error:
        raise DataError(error.what, where=place, advice=error.advice or ADVICE) from error


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False, allow_nan=False)


def _safe_json(value: Mapping[str, Any]) -> str:
    """JSON that ends no comment of HTML."""
    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c").replace(">", "\\u003e")
