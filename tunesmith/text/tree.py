"""The one data type for conversations: a tree of messages, stored flat in depth-first order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Role = Literal["system", "user", "assistant"]


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
    """

    role: Role
    text: str
    context: str = ""
    trained: bool | None = None
    rank: int | None = None
    score: float | None = None
    lang: str | None = None
    labels: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tree:
    """A tree of messages. A conversation is a tree without branches, a preference pair is a prompt with two replies.

    messages: in depth-first order.
    parents: for every message the index of the message that it answers, which is lower than its own; -1 for the root.
    place: where the tree was read (``file.jsonl:12``), for error messages.
    source: the name of its data source.
    group: trees of one group are on the same side of the validation split; empty for a tree of no group.

    Raises ValueError if the order is not depth-first or there is not exactly one root.
    """

    messages: tuple[Message, ...]
    parents: tuple[int, ...]
    place: str = ""
    source: str = ""
    group: str = ""

    def __post_init__(self) -> None:
        if len(self.messages) != len(self.parents) or not self.messages:
            raise ValueError(f"{len(self.messages)} messages with {len(self.parents)} parents")
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
