"""What changes in conversations while people look at them.

A feed has no queue. Whoever watches a conversation remembers in a position which version it has seen and how much text
of each reply; when something has changed, the difference is sent. So a slow reader costs no memory and gets fewer,
larger pieces, every tab that shows a conversation gets the same, and a lost connection is continued from its position.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field, replace

from tunesmith.serve.conversations.records import StoredMessage, new_id

POSITION = re.compile(r"(?P<feed>[0-9a-f]+)\.(?P<seen>[0-9]{1,15})(?P<lengths>(?:\.[A-Za-z0-9_-]{1,64}:[0-9]{1,15})*)")


@dataclass(slots=True)
class LiveReply:
    """A reply while it is written.

    message: with all text and tokens so far.
    phase: waiting (for a row of the model), loading (the model is opened), or writing.
    stopped: whether the user has stopped it.
    generation: the task that generates it; to cancel it ends the reply.
    task: waits for its end and stores it.
    settled: set when it was stored, or could not be at the first attempt.
    """

    message: StoredMessage
    phase: str = "waiting"
    stopped: bool = False
    generation: asyncio.Task[None] | None = None
    task: asyncio.Task[None] | None = None
    settled: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, text: str, tokens: int) -> None:
        """Add what was generated."""
        self.message = replace(self.message, text=self.message.text + text, tokens=self.message.tokens + tokens)


@dataclass(slots=True)
class FeedPosition:
    """What somebody who watches a conversation has got of its feed.

    seen: the version up to which nothing is missing, apart from texts that have grown.
    lengths: id of a reply that is being written -> how many characters of it.
    """

    seen: int = 0
    lengths: dict[str, int] = field(default_factory=dict)

    def write(self, feed: ConversationFeed) -> str:
        """The position as text without white space."""
        lengths = "".join(f".{name}:{length}" for name, length in self.lengths.items() if name in feed.live)
        return f"{feed.name}.{self.seen}{lengths}"

    @classmethod
    def read(cls, text: str, feed: ConversationFeed) -> FeedPosition:
        """The position in a text; the beginning, if the text is not a position in this feed."""
        match = POSITION.fullmatch(text)
        if match is None or match["feed"] != feed.name:
            return cls()
        lengths = (part.split(":") for part in match["lengths"].split(".") if part)
        return cls(min(int(match["seen"]), feed.version), {name: int(length) for name, length in lengths})


@dataclass(slots=True)
class ConversationFeed:
    """What is new about one conversation.

    name: of this feed, as long as it is used; a later one of the same conversation has another name.
    version: counts its changes.
    whole: the version of the last change after which everything is sent again.
    changed: id of a message -> version of its last change.
    live: the replies that are being written, by id.
    gone: whether it was deleted.
    closed: whether the server is stopping.
    watchers: how many watch it.
    """

    name: str = field(default_factory=new_id)
    version: int = 1
    whole: int = 1
    changed: dict[str, int] = field(default_factory=dict)
    live: dict[str, LiveReply] = field(default_factory=dict)
    gone: bool = False
    closed: bool = False
    watchers: int = 0
    waiting: set[asyncio.Event] = field(default_factory=set)

    def touch(self, message: str | None = None, *, whole: bool = False) -> None:
        """Note that a message has changed, or that anything may have. Without both, only texts have grown."""
        self.version += 1
        if whole:
            self.whole, self.changed = self.version, {}
        elif message is not None:
            self.changed.pop(message, None)  # so that the order is that of the changes
            self.changed[message] = self.version
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
