"""What changes in conversations while people look at them.

A feed has no queue. Whoever watches a conversation remembers which version it has seen and how much text of each reply
it has sent; when something has changed, it sends the difference. So a slow reader costs no memory and gets fewer,
larger pieces, and every tab that shows a conversation gets the same.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

from tunesmith.serve.conversations.records import StoredMessage


@dataclass(slots=True)
class LiveReply:
    """A reply while it is written.

    message: with all text and tokens so far.
    phase: waiting (for a row of the model), loading (the model is opened), or writing.
    stopped: whether the user has stopped it.
    generation: the task that generates it; to cancel it ends the reply.
    task: waits for its end and stores it.
    """

    message: StoredMessage
    phase: str = "waiting"
    stopped: bool = False
    generation: asyncio.Task[None] | None = None
    task: asyncio.Task[None] | None = None

    def add(self, text: str, tokens: int) -> None:
        """Add what was generated."""
        self.message = replace(self.message, text=self.message.text + text, tokens=self.message.tokens + tokens)


@dataclass(slots=True)
class ConversationFeed:
    """What is new about one conversation.

    version: counts its changes.
    whole: the version of the last change after which everything is sent again.
    changed: id of a message -> version of its last change.
    live: the replies that are being written, by id.
    gone: whether it was deleted.
    closed: whether the server is stopping.
    watchers: how many watch it.
    """

    version: int = 1
    whole: int = 1
    changed: dict[str, int] = field(default_factory=dict)
    live: dict[str, LiveReply] = field(default_factory=dict)
    gone: bool = False
    closed: bool = False
    watchers: int = 0
    waiting: set[asyncio.Event] = field(default_factory=set)

    def touch(self, *messages: str, whole: bool = False) -> None:
        """Note that messages have changed, or that anything may have. Without both, only texts have grown."""
        self.version += 1
        if whole:
            self.whole, self.changed = self.version, {}
        self.changed.update(dict.fromkeys(messages, self.version))
        for event in self.waiting:
            event.set()

    async def wait(self, seen: int, seconds: float) -> bool:
        """Wait until the version is another one than ``seen``; False if that takes longer."""
        if self.version != seen or self.gone or self.closed:
            return True
        event = asyncio.Event()
        self.waiting.add(event)
        try:
            await asyncio.wait_for(event.wait(), seconds)
            return True
        except TimeoutError:
            return False
        finally:
            self.waiting.discard(event)


class Feeds:
    """The feeds of the conversations that somebody watches or a reply is written in."""

    def __init__(self) -> None:
        self._feeds: dict[str, ConversationFeed] = {}
        self.closed = False

    def of(self, conversation: str) -> ConversationFeed:
        """The feed of a conversation."""
        feed = self._feeds.setdefault(conversation, ConversationFeed())
        feed.closed = self.closed
        return feed

    def live(self) -> list[LiveReply]:
        """All replies that are being written."""
        return [live for feed in self._feeds.values() for live in feed.live.values()]

    def find_live(self, message: str) -> LiveReply | None:
        """The reply with this id, if it is being written."""
        return next((live for live in self.live() if live.message.id == message), None)

    def forget_unused(self) -> None:
        """Remove the feeds that nobody uses. Whoever comes later begins with the whole conversation."""
        used = {name: feed for name, feed in self._feeds.items() if feed.watchers or feed.live}
        self._feeds = used

    def forget(self, conversation: str) -> None:
        """Remove the feed of a conversation that was deleted; another one may get its id, for example by an import."""
        self._feeds.pop(conversation, None)

    def close(self) -> None:
        """End everything that waits, because the server is stopping."""
        self.closed = True
        for feed in self._feeds.values():
            feed.closed = True
            feed.touch()
