"""Tools in conversations: definitions, calls and the parts of a content."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tunesmith.data.readers.reader import Settings, find_value
from tunesmith.data.sources.strict_json import type_name
from tunesmith.errors import DataError
from tunesmith.text.tree import Message, ToolCall

TOOLS = "tools"
_CALL_KEYS = ("id", "type", "function", "name", "arguments", "index")


def add_tools(settings: Settings, row: Mapping[str, Any], messages: Sequence[Message]) -> list[Message]:
    """The messages, of which the first holds the definitions of tools in the column ``tools``.

    The column is a list of objects, or JSON text of one; null, an empty list and an empty text are no tools.
    Raises DataError.
    """
    column = settings.columns[TOOLS]
    _, value = find_value(row, column)
    found = _as_list(value, f"field {column!r}")
    tools = [_decode(tool, f"{column}[{index}]") if isinstance(tool, str) else tool for index, tool in enumerate(found)]
    for index, tool in enumerate(tools):
        if not isinstance(tool, dict) or not tool:
            what = f"{column}[{index}] is {'empty' if tool == {} else type_name(tool)}, not the definition of a tool"
            raise DataError(what, advice="it must be an object such as {type: function, function: {name: ...}}")
    if not tools or not messages:
        return list(messages)
    return [replace(messages[0], tools=_encode(tools)), *messages[1:]]


def parse_tool_calls(value: Any, place: str) -> tuple[ToolCall, ...]:
    """The calls of a message: a list of objects in OpenAI's form, or JSON text of one; null is none.

    place: its name, such as ``messages[3].tool_calls``.
    Raises DataError.
    """
    calls = _as_list(value, place)
    return tuple(_parse_call(call, f"{place}[{index}]") for index, call in enumerate(calls))


def parse_call_text(text: str, place: str) -> tuple[ToolCall, ...]:
    """The calls of a turn whose text is JSON: an object with name and arguments, or a list of such. Raises DataError"""
    value = _decode(text, place)
    calls = value if isinstance(value, list) else [value]
    if not calls:
        raise DataError(f"{place} is an empty list", advice="it must be a call with name and arguments")
    return tuple(_parse_call(call, place) for call in calls)


def _parse_call(call: Any, place: str) -> ToolCall:
    if not isinstance(call, dict):
        raise DataError(f"{place} is {type_name(call)}, not a call of a tool")
    function = call.get("function", call)
    if call.get("type") not in (None, "function") or not isinstance(function, dict):
        what = f"{place} is a call of type {repr(call.get('type'))[:40]}"
        raise DataError(what, advice="calls of type function are supported")
    twice = [key for key in ("name", "arguments") if function is not call and call.get(key)]
    if twice:
        raise DataError(f"{place} has {twice[0]!r} outside of its function", advice="write it inside of function only")
    unknown = [key for key, value in {**call, **function}.items() if key not in _CALL_KEYS and value]
    if unknown:
        raise DataError(f"{place} has {str(unknown[0])[:40]!r}, which is not supported", advice=f"known: {_CALL_KEYS}")
    name, arguments, number = function.get("name"), function.get("arguments"), call.get("id")
    if not isinstance(name, str) or not name:
        raise DataError(f"{place}.name is {'empty' if name == '' else type_name(name)}, not the name of a tool")
    if number is not None and not isinstance(number, str):
        raise DataError(f"{place}.id is {type_name(number)}, not text")
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict | str):
        raise DataError(f"{place}.arguments is {type_name(arguments)}, not an object or a text")
    return ToolCall(name, arguments if isinstance(arguments, str) else _encode(arguments), number or "")


def join_parts(parts: Sequence[Any], place: str) -> str:
    """The text of a content that is a list of parts. Raises DataError that names a part which is not a text."""
    texts: list[str] = []
    for index, part in enumerate(parts):
        kind = part.get("type") if isinstance(part, dict) else None
        if not isinstance(part, dict) or kind != "text" or not isinstance(part.get("text"), str):
            shown = f"a part of type {kind[:40]!r}" if isinstance(kind, str) else type_name(part)
            what = f"{place}[{index}] is {shown}, which is not supported"
            raise DataError(what, advice="parts with type text and a text are read")
        held = [key for key, value in part.items() if key not in ("type", "text") and value]
        if held:
            raise DataError(f"{place}[{index}] has {str(held[0])[:40]!r}, which is not supported")
        texts.append(part["text"])
    return "".join(texts)


def _as_list(value: Any, what: str) -> list[Any]:
    """A list, or the list that a text holds as JSON; null, an empty text and an empty object are an empty list."""
    found = (_decode(value, what) if value.strip() else None) if isinstance(value, str) else value
    if found is None or found == [] or found == {}:
        return []
    if not isinstance(found, list):
        raise DataError(f"{what} is {type_name(found)}, not a list")
    return found


def _decode(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{what} is not JSON: {error}", advice="write it as JSON") from error


def _encode(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
