"""Messages as a chat template is given them, and the shape of a message: everything in it that is not a content."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from tunesmith.text.formats.format import Control, TextPiece
from tunesmith.text.tree import Message, Role, ToolCall

SPACE = "\u2005"  # white space that no template writes: whether it is kept shows whether contents are stripped
_OPEN, _CLOSE, _SHIELD = "\ue000", "\ue001", "\ue002"
MARKER = re.compile(f"({SPACE}?){_OPEN}([0-9]+){_CLOSE}({SPACE}?)")
REASONING_KEYS = ("reasoning_content", "thinking", "reasoning")
_WORD = re.compile(r"[\w.$-]*", re.ASCII)

Part = Literal["text", "reasoning"]
_STRIPPED: Mapping[str, str | None] = {"breaks": "\n", "all": None}
Stripped = Literal["", "breaks", "all", "json"]


@dataclass(frozen=True, slots=True)
class Shape:
    """What decides the text around the contents of a message.

    role: its role.
    text, reasoning: whether it has them.
    tool_calls, name, tool_call_id, tools: as in ``Message``.
    """

    role: Role
    text: bool = True
    reasoning: bool = False
    tool_calls: tuple[ToolCall, ...] = ()
    name: str = ""
    tool_call_id: str = ""
    tools: str = ""


@dataclass(frozen=True, slots=True)
class Contents:
    """The contents of a message, without those that its shape holds."""

    text: str
    reasoning: str = ""


def shape_of(message: Message) -> Shape:
    """Return the shape of a message."""
    has_text = bool(message.text) or not message.tool_calls
    extra = (message.tool_calls, message.name, message.tool_call_id, message.tools)
    return Shape(message.role, has_text, bool(message.reasoning), *extra)


@dataclass(frozen=True, slots=True)
class MessageForm:
    """How a template wants its messages.

    reasoning: the key of the reasoning; None if the template reads none.
    empty: the content of a message with tool calls and no text.
    objects: whether arguments are objects where they can be, or always texts.
    parts: whether a content is a list with one part of type text.
    """

    reasoning: str | None = "reasoning_content"
    empty: str | None = ""
    objects: bool = True
    parts: bool = False

    def write(self, shape: Shape, contents: Contents, change: Callable[[str], str] = str) -> dict[str, Any]:
        """Return a message as an object in OpenAI's form.

        change: is applied to every text that is not one of the contents.
        """
        text = [{"type": "text", "text": contents.text}] if self.parts else contents.text
        found: dict[str, Any] = {"role": shape.role, "content": text if shape.text else self.empty}
        if shape.reasoning and self.reasoning is not None:
            found[self.reasoning] = contents.reasoning
        if shape.tool_calls:
            found["tool_calls"] = [self._write_call(call, change) for call in shape.tool_calls]
        if shape.name:
            found["name"] = change(shape.name)
        if shape.tool_call_id:
            found["tool_call_id"] = change(shape.tool_call_id)
        return found

    def _write_call(self, call: ToolCall, change: Callable[[str], str]) -> dict[str, Any]:
        arguments = _change_all(_parse(call.arguments) if self.objects else call.arguments, change)
        number = {"id": change(call.id)} if call.id else {}
        return {"type": "function", **number, "function": {"name": change(call.name), "arguments": arguments}}


def tools_of(shapes: Sequence[Shape], change: Callable[[str], str] = str) -> list[Any] | None:
    """Return the definitions of the tools of a conversation; None if it has none."""
    text = shapes[0].tools if shapes else ""
    found: list[Any] | None = _change_all(json.loads(text), change) if text else None
    return found or None


def _parse(arguments: str) -> Any:
    """Return the object that arguments are as JSON, or the text itself."""
    try:
        found = json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
    return found if isinstance(found, dict) else arguments


def _change_all(value: Any, change: Callable[[str], str]) -> Any:
    """Apply ``change`` to every text and key of a JSON value."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {change(key): _change_all(each, change) for key, each in value.items()}
    return [_change_all(each, change) for each in value] if isinstance(value, list) else value


class Shield:
    """Keeps the names of control tokens in texts that a template writes from being taken for control tokens.

    controls: the names. A character for private use is written into every name, and at the end of a text that could
        be part of one together with its neighbour.
    """

    def __init__(self, controls: Sequence[str]) -> None:
        names = sorted(filter(None, controls), key=len, reverse=True)
        self.pattern = re.compile("|".join(map(re.escape, names)) or r"(?!)")
        self._begins = tuple({name[:end] for name in names for end in range(1, len(name))})
        self._ends = tuple({name[start:] for name in names for start in range(1, len(name))})

    def protect(self, text: str) -> str:
        found = self.pattern.sub(lambda match: match.group()[0] + _SHIELD + match.group()[1:], text)
        if not text or _WORD.fullmatch(text):
            return found
        start = _SHIELD if text.startswith(self._ends) else ""
        return f"{start}{found}{_SHIELD if text.endswith(self._begins) else ''}"


def unshield(text: str) -> str:
    """Return a text without the characters that ``Shield.protect`` added."""
    return text.replace(_SHIELD, "")


def marker(message: int, part: Part, around: str) -> str:
    """Return a text for the place of a content. around: is written before and after it."""
    return f"{around}{_OPEN}{2 * message + (part == 'reasoning')}{_CLOSE}{around}"


@dataclass(frozen=True, slots=True)
class ContentSlot:
    """The position of a content of a message.

    message: the index of the message in the conversation.
    part: which of its contents.
    left, right: what the template does to that end of the content: it strips line breaks, or all white space, or the
        whole content is written as in JSON.
    """

    message: int
    part: Part
    left: Stripped
    right: Stripped

    def fill(self, contents: Sequence[Contents]) -> str:
        """Return the content as the template writes it. contents: of all messages."""
        found = contents[self.message]
        text = found.text if self.part == "text" else found.reasoning
        if self.left in _STRIPPED:
            text = text.lstrip(_STRIPPED[self.left])
        if self.right in _STRIPPED:
            text = text.rstrip(_STRIPPED[self.right])
        return json.dumps(text, ensure_ascii=False)[1:-1] if "json" in (self.left, self.right) else text


TemplatePiece: TypeAlias = Control | TextPiece | ContentSlot


def show(text: str) -> str:
    """Return a rendering with readable markers, for messages."""
    return unshield(MARKER.sub(lambda found: f"«turn {int(found.group(2)) // 2 + 1}»", text))
