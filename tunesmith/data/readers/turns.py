"""Lists of turns: objects with a role and a text become messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from tunesmith.data.readers.masks import MASK_KEYS, find_mask
from tunesmith.data.readers.meanings import holds_something
from tunesmith.data.readers.reader import Contents, as_text
from tunesmith.data.readers.tools import join_parts, parse_call_text, parse_tool_calls
from tunesmith.data.sources.strict_json import type_name
from tunesmith.errors import DataError
from tunesmith.text.tree import Message, Role

TURN_LIMIT = 2000
# Keys of a message that are refused where they hold something.
UNSUPPORTED = ("function_call", "audio", "refusal", "images", "videos", "audios")
REASONING = ("reasoning_content", "thinking", "reasoning")
PLAIN_ROLES: Mapping[str, Role] = {"system": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
TURN_KEYS: Contents = dict.fromkeys(
    ("role", "content", "context", "tool_calls", "tool_call_id", "name", *REASONING, *MASK_KEYS, *UNSUPPORTED)
)
"""The keys of a turn that are read, or refused where they hold something."""


class TurnFormat(NamedTuple):
    """How turns are written.

    role, content: the possible names of these two keys.
    roles: name of a role in the data -> role.
    calls: names of a role of the assistant whose turns are calls of tools as JSON.
    """

    role: Sequence[str]
    content: Sequence[str]
    roles: Mapping[str, Role]
    calls: Sequence[str] = ()


def parse_turns(value: Any, place: str, form: TurnFormat) -> list[Message]:
    """The messages of a list that is not empty; a text may be empty, see ``check_not_empty``.

    value: of the field.
    place: its name, such as ``messages``.
    Raises DataError that names the place and key of what it cannot use.
    """
    if not isinstance(value, list) or not value:
        found = "empty" if value == [] else f"{type_name(value)}, not a list of messages"
        raise DataError(f"field {place!r} is {found}")
    if len(value) > TURN_LIMIT:
        raise DataError(f"field {place!r} has {len(value):,} messages", advice=f"{TURN_LIMIT:,} is the most; split it")
    return [parse_turn(turn, f"{place}[{index}]", form) for index, turn in enumerate(value)]


def parse_turn(turn: Any, place: str, form: TurnFormat) -> Message:
    """One message; its text may be empty.

    turn: the object.
    place: its name, such as ``messages[3]``.
    Raises DataError.
    """
    if not isinstance(turn, dict):
        raise DataError(f"{place} is {type_name(turn)}, not an object with {form.role[0]} and {form.content[0]}")
    for key in UNSUPPORTED:
        if holds_something(turn.get(key)):
            raise DataError(f"{place} has {key!r}, which is not supported", advice="tools are read from tool_calls")
    role_key, content_key = _find_key(turn, form.role, place), _find_key(turn, form.content, place)
    named = turn.get(role_key)
    if not isinstance(named, str) or named not in form.roles:
        shown = repr(named[:40]) if isinstance(named, str) else type_name(named)
        example = ", such as options={system: developer}" if named == "developer" else ""
        advice = f"known are {', '.join(form.roles)}; options can rename them{example}"
        raise DataError(f"{place}: role {shown} is unknown", advice=advice)
    role, content = form.roles[named], f"{place}.{content_key}"
    calls = parse_tool_calls(turn.get("tool_calls"), f"{place}.tool_calls")
    value = turn.get(content_key)
    if named in form.calls:
        calls, text = (*calls, *parse_call_text(as_text(value, content), content)), ""
    elif isinstance(value, list) and not all(isinstance(part, str) for part in value):
        text = join_parts(value, content)
    else:
        text = "" if value is None and calls else as_text(value, content)
    if calls and role != "assistant":
        what = f"{place}: a message of the {role} with tool calls"
        raise DataError(what, advice="only a message of the assistant has them")
    reasoning = _parse_reasoning(turn, place, role)
    _check_one_reasoning(reasoning, text, place)
    return Message(
        role,
        text,
        context=_parse_context(turn, place, role),
        trained=find_mask(turn, role, place),
        reasoning=reasoning,
        tool_calls=calls,
        name=_text_of_tool(turn, "name", place, role),
        tool_call_id=_text_of_tool(turn, "tool_call_id", place, role),
    )


def _check_one_reasoning(reasoning: str, text: str, place: str) -> None:
    """Raises DataError where a message has reasoning both as a key and written into its text."""
    if reasoning and text.lstrip().startswith("<think>"):
        what = f"{place} has reasoning as a key, and also between <think> and </think> in its text"
        raise DataError(what, advice="leave one of the two out")


def _find_key(turn: Mapping[str, Any], names: Sequence[str], place: str) -> str:
    """The first of some names of a key that has a value. Raises DataError where two of them have different values."""
    held = [name for name in names if turn.get(name) is not None]
    if any(turn[name] != turn[held[0]] for name in held):
        raise DataError(f"{place}: {' and '.join(held)} differ", advice="leave one of them out")
    return held[0] if held else next((name for name in names if name in turn), names[0])


def _parse_reasoning(turn: Mapping[str, Any], place: str, role: Role) -> str:
    """The reasoning of a message under any of its names. Raises DataError where two of them differ."""
    found = {key: as_text(turn[key], f"{place}.{key}") for key in REASONING if turn.get(key) not in (None, "")}
    if len(set(found.values())) > 1:
        raise DataError(f"{place}: {' and '.join(found)} differ", advice="leave one of them out")
    if found and role != "assistant":
        what = f"{place}: a message of the {role} with {next(iter(found))!r}"
        raise DataError(what, advice="only a message of the assistant has reasoning")
    return next(iter(found.values()), "")


def _parse_context(turn: Mapping[str, Any], place: str, role: Role) -> str:
    """The passage that a message of the user refers to; empty if it has none. Raises DataError for another message."""
    value = turn.get("context")
    if not value:
        return ""
    if role != "user":
        advice = "only a message of the user has a passage; name the key under ignore to leave it out"
        raise DataError(f"{place} has 'context', which is not supported", advice=advice)
    return as_text(value, f"{place}.context")


def _text_of_tool(turn: Mapping[str, Any], key: str, place: str, role: Role) -> str:
    """A text that only messages of tools have; empty if it is missing. Raises DataError for another message."""
    value = turn.get(key)
    if not value:
        return ""
    if role != "tool":
        advice = "only a message of the role tool has it; a speaker's name can be part of the text"
        raise DataError(f"{place} has {key!r}, which is not supported", advice=advice)
    return as_text(value, f"{place}.{key}")


def merge_turns(turns: Sequence[Message], rule: str, place: str) -> list[Message]:
    """The turns, where turns of user, assistant or system in a row are joined with a line break.

    rule: ``merge``, ``keep`` leaves them as they are, ``error`` refuses them.
    place: the name of the list, such as ``messages``.
    Raises DataError.
    """
    found: list[Message] = []
    for index, turn in enumerate(turns):
        if rule == "keep" or turn.role == "tool" or not found or found[-1].role != turn.role:
            found.append(turn)
        elif rule == "error":
            raise DataError(
                f"{place}: turns {index - 1} and {index} are both of the {turn.role}",
                advice="set options.same_role to merge, or fix the record",
            )
        else:
            found[-1] = _join_turns(found[-1], turn, f"{place}: turns {index - 1} and {index}")
    return found


def _join_turns(first: Message, second: Message, what: str) -> Message:
    """Both turns as one. Raises DataError where the order of their parts would change, or one is trained alone."""
    if first.context:
        what = f"{what} cannot be joined: the passage of the first would follow the text of the second"
        raise DataError(what, advice="set options.same_role to another value, or fix the record")
    if first.trained != second.trained:
        raise DataError(f"{what} cannot be joined: one is trained, the other is not", advice="mark them alike")
    if (first.tool_calls and (second.text or second.reasoning)) or (
        second.reasoning and (first.text or first.reasoning)
    ):
        what = f"{what} cannot be joined: reasoning comes first in a turn and tool calls come last"
        raise DataError(what, advice="set options.same_role to another value, or fix the record")
    return replace(
        first,
        text="\n".join(text for text in (first.text, second.text) if text or not second.tool_calls),
        context=second.context,
        reasoning=first.reasoning or second.reasoning,
        tool_calls=(*first.tool_calls, *second.tool_calls),
    )


def check_not_empty(messages: Sequence[Message], place: str) -> None:
    """Raises DataError if the text of a message is empty or white space."""
    for index, message in enumerate(messages):
        if message.is_empty:
            raise DataError(f"{place}[{index}] ({message.role}) is empty", advice="fix the record")


def check_answered(messages: Sequence[Message], place: str) -> None:
    """Raises DataError if there is no assistant message."""
    if not any(message.role == "assistant" for message in messages):
        advice = "there is nothing to learn from it; does the data name the role in another way?"
        raise DataError(f"field {place!r} has no assistant message", advice=advice)
