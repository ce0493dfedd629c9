"""What a chat needs of a model, which is loaded here or answers behind a URL. This module imports no PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tunesmith.text.tokens.show import ShownToken
from tunesmith.text.tree import Message


@dataclass(frozen=True, slots=True)
class ReplyPart:
    """A piece of a reply, or of one of several drafts, while it is generated.

    draft: the number of the draft, from 0.
    text: what this piece adds.
    tokens: the number of tokens since the last piece; 0 where nobody counts them.
    finish: why the draft ends: ``stop``, ``length``, ``context``, or another word of a server; None while it goes on.
    """

    draft: int
    text: str
    tokens: int = 0
    finish: str | None = None


class ChatModel(Protocol):
    """A model with its sampling settings.

    about: one line for people: model or prompt format, settings and seed.
    commands_left_out: the commands that it cannot serve.
    multi_turn: whether a prompt may have several turns.
    format_name: the name of the prompt format, or empty.
    passage_label: what the prompt format writes before a passage, see ``find_passage_label``; None for no place.
    context: the largest number of tokens that it reads; None if that is not known.
    draws: whether two replies to one prompt differ.
    notice: what the user should know about its replies; None for nothing.
    """

    @property
    def about(self) -> str: ...

    @property
    def commands_left_out(self) -> frozenset[str]: ...

    @property
    def multi_turn(self) -> bool: ...

    @property
    def format_name(self) -> str: ...

    @property
    def passage_label(self) -> str | None: ...

    @property
    def context(self) -> int | None: ...

    @property
    def draws(self) -> bool: ...

    @property
    def notice(self) -> str | None: ...

    def find_system_fault(self, message: Message) -> str | None:
        """Why the prompt format does not support this system message; None if it does."""
        ...

    def change_sampling(self, settings: Mapping[str, Any]) -> None:
        """Change sampling settings. Raises UsageError, and changes none then."""
        ...

    def describe_sampling(self) -> str:
        """The sampling settings on one line."""
        ...

    def prepare(self, messages: Sequence[Message]) -> int:
        """Make the prompt of the next reply; the number of old messages that are left out of it. Raises DataError."""
        ...

    def stream(self, messages: Sequence[Message], sample: int, drafts: int) -> Iterator[ReplyPart]:
        """Replies to the prompt that ``prepare`` made of these messages, piece by piece.

        sample: the number of the first one in this chat, which decides its random numbers.
        drafts: how many are generated together; the pieces of several are mixed.
        Raises DataError, MissingInputError.
        """
        ...

    def prompt_tokens(self) -> Sequence[ShownToken]:
        """The tokens that the model read before the last reply."""
        ...
