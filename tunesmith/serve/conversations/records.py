"""What is stored: conversations, their messages, and how a message is named in an error."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

MessageRole = Literal["user", "assistant"]
MessageState = Literal["done", "writing", "stopped", "interrupted", "failed"]
"""Of a reply: complete, being written, stopped by the user, cut off by the end of the server, ended by an error."""

STATES: tuple[MessageState, ...] = ("done", "writing", "stopped", "interrupted", "failed")
IDENTITY = r"^[A-Za-z0-9_-]{1,64}$"
"""The ids that a client may choose; they are parts of URLs."""

LATEST = 253_402_300_799_000
"""The end of the year 9999 in milliseconds since 1970; later times cannot be written as dates."""

DEEPEST = 28
"""Messages on a path of a nested tree. A line of JSON has at most 64 levels, and every message needs two."""

TITLE_LENGTH = 80
"""Characters of a title that is taken from the first message."""


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """One message of a conversation. The replies to a message, and first messages, are siblings in order of creation.

    id: chosen by the client or by the store.
    parent: the message that it answers; None for a first message.
    role: user or assistant.
    text: its content so far.
    shown: whether it is the one of its siblings that is shown.
    created: milliseconds since 1970.
    context: a passage that a message of the user refers to.
    state: always done for a message of the user.

    The following are those of replies. An edited reply has those of the original, without tokens.

    model: the name under which the model was served.
    system: the system message that the model read.
    sampling: the sampling settings.
    seed, sample: of its random numbers.
    prompt_tokens, tokens: ids that the model read and generated.
    milliseconds: from its first to its last token.
    dropped: old messages that did not fit into the prompt.
    finish: why it ended (stop, length, context), or empty.
    error: what went wrong, or empty.
    edit_of: the reply of which this is an edited copy.
    drafts: the name of the set of drafts that it belongs to, or empty.

    What people think of a reply:

    chosen: whether it was chosen (True) or not chosen (False) from its drafts; None if nobody chose.
    vote: 1, 0 or -1.
    comment: a remark.
    """

    id: str
    parent: str | None
    role: MessageRole
    text: str
    shown: bool = True
    created: int = 0
    context: str = ""
    state: MessageState = "done"
    model: str = ""
    system: str = ""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    sample: int = 0
    prompt_tokens: int = 0
    tokens: int = 0
    milliseconds: int = 0
    dropped: int = 0
    finish: str = ""
    error: str = ""
    edit_of: str | None = None
    drafts: str = ""
    chosen: bool | None = None
    vote: int = 0
    comment: str = ""


@dataclass(frozen=True, slots=True)
class StoredConversation:
    """A conversation without its messages.

    id: chosen by the client or by the store.
    title: as it is listed; empty until there is a first message.
    system: the system message for the next replies; empty for none.
    feedback: whether `tunesmith feedback` may use it. It is off until somebody switches it on.
    created, changed: milliseconds since 1970.
    """

    id: str
    title: str = ""
    system: str = ""
    feedback: bool = False
    created: int = 0
    changed: int = 0


@dataclass(frozen=True, slots=True)
class ConversationTree:
    """A conversation with its messages, depth first: after each message all that follows from its first reply, then all
    that follows from the second one."""

    conversation: StoredConversation
    messages: tuple[StoredMessage, ...]

    def path_to(self, identity: str) -> tuple[StoredMessage, ...]:
        """The messages from a first message to this one, both included."""
        by_id = {message.id: message for message in self.messages}
        path, at = [], by_id.get(identity)
        while at is not None:
            path.append(at)
            at = by_id.get(at.parent) if at.parent is not None else None
        return tuple(reversed(path))

    def shown_thread(self) -> tuple[StoredMessage, ...]:
        """The messages that are shown, from the first to the last."""
        shown = {message.parent: message for message in self.messages if message.shown}
        thread: list[StoredMessage] = []
        while (following := shown.get(thread[-1].id if thread else None)) is not None:
            thread.append(following)
        return tuple(thread)

    def children(self) -> dict[str | None, list[StoredMessage]]:
        """The id of a message, or None for first messages -> its replies in their order."""
        return _children(self.messages)


def new_id() -> str:
    """An id that nobody can guess: 20 letters and digits."""
    return secrets.token_hex(10)


def now() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def title_of(text: str) -> str:
    """The title of a conversation that begins with this text: its first words."""
    words = " ".join(text[: 20 * TITLE_LENGTH].split())
    return words if len(words) <= TITLE_LENGTH else words[: TITLE_LENGTH - 1].rstrip() + "…"


def depth_first(messages: Sequence[StoredMessage]) -> list[StoredMessage]:
    """The messages as a ``ConversationTree`` has them; those that answer an unknown message are left out."""
    children = _children(messages)
    found, waiting = list[StoredMessage](), children.get(None, [])[::-1]
    while waiting:
        found.append(waiting.pop())
        waiting += reversed(children.get(found[-1].id, []))
    return found


def _children(messages: Sequence[StoredMessage]) -> dict[str | None, list[StoredMessage]]:
    found: dict[str | None, list[StoredMessage]] = {}
    for message in messages:
        found.setdefault(message.parent, []).append(message)
    return found
