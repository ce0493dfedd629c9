"""Readers: one small function for each form of row. A row becomes a tree of messages, or is turned away with a reason.

Texts are taken as they are: nothing is stripped, mended or converted. What a reader cannot use is a DataError that
names the field; the caller adds the place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from tunesmith.data.oasst import OASST_OPTIONS, oasst
from tunesmith.data.reading import (
    EMPTY,
    Option,
    Outcome,
    Reader,
    Rejected,
    Settings,
    as_text,
    blank,
    flag,
    optional_text_of,
    text_of,
    texts,
)
from tunesmith.data.strict_json import kind
from tunesmith.errors import DataError, RecipeError
from tunesmith.text.tree import Message, Role, Tree

TURN_LIMIT = 2000
UNSUPPORTED = (
    "name",
    "tool_calls",
    "tool_call_id",
    "function_call",
    "audio",
    "refusal",
)  # of a message in OpenAI's form


def dolly(settings: Settings, row: Mapping[str, Any]) -> Outcome:
    """instruction, context (may be missing, null or empty), response."""
    instruction, response = text_of(settings, row, "instruction"), text_of(settings, row, "response")
    context = optional_text_of(settings, row, "context")
    if rejected := blank(settings, {"instruction": instruction, "response": response}):
        return rejected
    return Tree.path((Message("user", instruction, context=context), Message("assistant", response)))


def alpaca(settings: Settings, row: Mapping[str, Any]) -> Outcome:
    """instruction, input (may be missing, null or empty), output.

    Options: ``join`` puts the input behind the instruction, on a new line, instead of giving it to the format as context;
    ``drop_phrases`` turns away rows whose output holds one of them, in upper or lower case.
    """
    instruction, output = text_of(settings, row, "instruction"), text_of(settings, row, "output")
    given = optional_text_of(settings, row, "input")
    if rejected := blank(settings, {"instruction": instruction, "output": output}):
        return rejected
    lowered = output.lower()
    if any(phrase.lower() in lowered for phrase in settings.options["drop_phrases"] or ()):
        return Rejected("phrase in output")
    if settings.options["join"] and given:
        return Tree.path((Message("user", f"{instruction}\n{given}"), Message("assistant", output)))
    return Tree.path((Message("user", instruction, context=given), Message("assistant", output)))


def messages(settings: Settings, row: Mapping[str, Any]) -> Outcome:
    """A list of messages with role and content; ``weight`` 0 of an assistant message keeps it out of training.

    Options ``system``, ``user``, ``assistant``: what the data call these roles.
    """
    column = settings.columns["messages"]
    turns = row.get(column)
    if not isinstance(turns, list) or not turns:
        fault = "missing" if column not in row else "empty" if turns == [] else f"{kind(turns)}, not a list of messages"
        present = ", ".join(sorted(map(str, row))[:12]) or "no fields"
        raise DataError(
            f"field {column!r} is {fault}", advice=f"the row has {present}; name the right one under fields.messages"
        )
    if len(turns) > TURN_LIMIT:
        raise DataError(f"field {column!r} has {len(turns):,} messages", advice=f"{TURN_LIMIT:,} is the most; split it")
    tree = Tree.path([_turn(settings, turn, f"{column}[{index}]") for index, turn in enumerate(turns)])
    if not any(message.role == "assistant" for message in tree.messages):
        raise DataError(
            f"field {column!r} has no assistant message", advice="there is nothing to learn from it; remove it"
        )
    return tree


def _turn(settings: Settings, turn: Any, place: str) -> Message:
    """One message. place: ``messages[3]``."""
    if not isinstance(turn, dict):
        raise DataError(f"{place} is {kind(turn)}, not an object with role and content")
    for key in UNSUPPORTED:
        if turn.get(key):
            raise DataError(
                f"{place} has {key!r}, which is not supported", advice="only plain text from user and assistant is"
            )
    given: dict[str, Role] = {settings.options[role]: role for role in ROLES}
    named, content = (turn.get(settings.columns[key]) for key in ("role", "content"))
    if not isinstance(named, str) or named not in given:
        shown = repr(named[:40]) if isinstance(named, str) else kind(named)
        raise DataError(
            f"{place}: role {shown} is unknown", advice=f"known are {', '.join(given)}; options can rename them"
        )
    text = as_text(content, f"{place}.{settings.columns['content']}")
    if not text.strip():
        raise DataError(f"{place} ({named}) is empty", advice="mend or remove the record")
    weight = turn.get("weight")
    if weight not in (None, 0, 1) or isinstance(weight, bool):
        raise DataError(f"{place}: weight {weight!r} is neither 0 nor 1")
    return Message(given[named], text, trained=None if weight is None or given[named] != "assistant" else weight == 1)


ROLES: tuple[Role, ...] = ("system", "user", "assistant")
RENAMED: dict[str, Option] = {
    role: Option(role, lambda value: isinstance(value, str) and bool(value), "the name of that role in the data")
    for role in ROLES
}

READERS: dict[str, Reader] = {
    "dolly": Reader(dolly, ("instruction", "context", "response"), {"empty": EMPTY}),
    "alpaca": Reader(
        alpaca, ("instruction", "input", "output"), {"empty": EMPTY, "join": flag(False), "drop_phrases": texts(None)}
    ),
    "messages": Reader(messages, ("messages", "role", "content"), RENAMED),
    "oasst": Reader(oasst, ("prompt", "tree_state"), OASST_OPTIONS),
}


def open_reader(
    name: str, fields: Mapping[str, str], options: Mapping[str, Any], *, where: str | None = None
) -> Callable[[Mapping[str, Any]], Outcome]:
    """The function row -> tree of one source, its settings checked. where: the source, for messages.

    Raises RecipeError for an unknown reader, field or option, or a value that the option does not allow.
    """
    if name not in READERS:
        raise RecipeError(f"there is no reader {name!r}", where=where, advice=f"known are {', '.join(READERS)}")
    reader = READERS[name]
    for given, known, what in ((fields, reader.columns, "fields"), (options, reader.options, "options")):
        for key in given:
            if key not in known:
                advice = f"it has {', '.join(known)}"
                raise RecipeError(f"reader {name} has no {what}.{key}", where=where, advice=advice)
    for key, value in options.items():
        if not reader.options[key].allows(value):
            expected = reader.options[key].expected
            raise RecipeError(
                f"options.{key} of reader {name} is {value!r}", where=where, advice=f"it must be {expected}"
            )
    columns = {column: fields.get(column, column) for column in reader.columns}
    values = {key: options.get(key, option.default) for key, option in reader.options.items()}
    return partial(reader.read, Settings(columns, values))
