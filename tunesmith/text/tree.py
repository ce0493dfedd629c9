"""The one data type for conversations: a tree of messages, stored flat in depth-first order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]
ASKING_ROLES: tuple[Role, ...] = ("user", "tool")
"""The roles whose messages a reply answers."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool by the assistant.

    name: of the tool.
    arguments: JSON text, or a text in another form, as in the data.
    id: by which a message of the tool refers to the call; empty if it has none.
    """

    name: str
    arguments: str = "{}"
    id: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    role: who writes it.
    text: its content.
    context: a passage that the turn refers to (dolly's ``context``, alpaca's ``input``);
        each format has a place for it.
    trained: whether an assistant turn is a target; None leaves it to the recipe.
    rank: its rank among its siblings, lower is better; None if it has none.
    score: its score on any scale, higher is better; None if it has none.
    lang: its language, as the source names it.
    labels: further named values in [0, 1] (quality, humor, ...) of the source.
    reasoning: what an assistant writes before its answer.
    tool_calls: the calls at the end of an assistant's turn.
    name: the tool that a message of the role ``tool`` is from.
    tool_call_id: the call that a message of the role ``tool`` answers.
    tools: the definitions of all tools of the conversation, as JSON text of a list; only the root has them.
    """

    role: Role
    text: str
    context: str = ""
    trained: bool | None = None
    rank: int | None = None
    score: float | None = None
    lang: str | None = None
    labels: Mapping[str, float] = field(default_factory=dict)
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    name: str = ""
    tool_call_id: str = ""
    tools: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether it has neither a text nor tool calls. The result of a tool may be empty text."""
        return self.role != "tool" and not self.tool_calls and not self.text.strip()

    def extra_texts(self) -> tuple[str, ...]:
        """Return the texts that only conversations with tools or reasoning have, without empty ones."""
        calls = [text for call in self.tool_calls for text in (call.name, call.arguments, call.id)]
        return tuple(text for text in (self.reasoning, *calls, self.name, self.tool_call_id, self.tools) if text)

    def as_dict(self, content: str) -> dict[str, Any]:
        """Return the message as an object in OpenAI's form. The definitions of the tools are not part of it.

        content: the text to write, usually that of the message.
        """
        found: dict[str, Any] = {"role": self.role, "content": content}
        if self.reasoning:
            found["reasoning_content"] = self.reasoning
        if self.tool_calls:
            found["tool_calls"] = [
                {
                    "type": "function",
                    **({"id": call.id} if call.id else {}),
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in self.tool_calls
            ]
        if self.name:
            found["name"] = self.name
        if self.tool_call_id:
            found["tool_call_id"] = self.tool_call_id
        return found


@dataclass(frozen=True, slots=True)
class Tree:
    """A tree of messages. A conversation is a tree without branches, a preference pair is a prompt with two replies.

    messages: in depth-first order.
    parents: for every message the index of the message that it answers, which is lower than its own; -1 for the root.
    place: where the tree was read (``file.jsonl:12``), for error messages.
    source: the name of its data source.
    group: trees of one group are on the same side of the validation split; empty for a tree of no group.

    Raises ValueError if the order is not depth-first, there is not exactly one root, or a message that is not the root
    has definitions of tools.
    """

    messages: tuple[Message, ...]
    parents: tuple[int, ...]
    place: str = ""
    source: str = ""
    group: str = ""

    def __post_init__(self) -> None:
        if len(self.messages) != len(self.parents) or not self.messages:
            raise ValueError(f"{len(self.messages)} messages with {len(self.parents)} parents")
        if any(message.tools for message in self.messages[1:]):
            raise ValueError("definitions of tools in a message that is not the root")
        open_path: list[int] = []  # the path from the root to the message before i
        for index, parent in enumerate(self.parents):
            while open_path and open_path[-1] != parent:
                open_path.pop()
            if (index == 0) != (parent == -1) or (index > 0 and not open_path):
                raise ValueError(f"parents {self.parents!r} are not one tree in depth-first order (message {index})")
            open_path.append(index)

    @classmethod
    def path(cls, messages: Sequence[Message], *, place: str = "", source: str = "") -> Tree:
        """Return a conversation without branches."""
        return cls(tuple(messages), tuple(range(-1, len(messages) - 1)), place, source)

    def children(self) -> tuple[tuple[int, ...], ...]:
        """Return for every message the indices of its direct replies, in order."""
        found: list[list[int]] = [[] for _ in self.messages]
        for index, parent in enumerate(self.parents):
            if parent >= 0:
                found[parent].append(index)
        return tuple(tuple(replies) for replies in found)

    def ancestors(self, index: int) -> tuple[int, ...]:
        """Return the indices from the root to ``index``, both included."""
        path = [index]
        while (parent := self.parents[path[-1]]) >= 0:
            path.append(parent)
        return tuple(reversed(path))

    def threads(self) -> Iterator[tuple[int, ...]]:
        """Yield every root-to-leaf path as indices, in depth-first order."""
        has_reply = set(self.parents)
        for index in range(len(self.messages)):
            if index not in has_reply:
                yield self.ancestors(index)
