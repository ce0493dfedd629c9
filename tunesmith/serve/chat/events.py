"""The stream of one conversation, as server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

from tunesmith.errors import MissingInputError
from tunesmith.serve.chat.feeds import ConversationFeed, FeedPosition
from tunesmith.serve.chat.service import ChatService
from tunesmith.serve.conversations.records import ConversationTree, StoredMessage

HEARTBEAT = 15.0
"""Seconds after which something is sent in any case, so that both sides notice a lost connection."""

PAUSE = 0.03
"""Seconds between two events at least: more is not seen."""


async def conversation_events(service: ChatService, home: str, after: str = "") -> AsyncIterator[str]:
    """What happens in a conversation, from the state at the beginning on:

    conversation: the whole tree. message: one message that is new or has changed. text: an addition to the text of a
    reply, with the number of characters before it. gone: the conversation was deleted. bye: the server is stopping.
    here: nothing has happened.

    after: the id of the last event that was received on a connection that was lost. Nothing that came before it is
        sent again, as long as the feed is in use; otherwise the first event has the whole tree.
    Raises MissingInputError for a conversation that does not exist.
    """
    feed = service.feeds.of(home)
    feed.watchers += 1
    position = FeedPosition.read(after, feed)
    try:
        while not (feed.gone or feed.closed):
            if position.seen < feed.version:
                async for event in _news(service, home, feed, position):
                    yield event
                await asyncio.sleep(PAUSE)
            while not await feed.wait(position.seen, HEARTBEAT):
                yield _event("here", {})
        yield _event("gone" if feed.gone else "bye", {})
    finally:
        feed.watchers -= 1
        service.feeds.forget_unused()


async def _news(service: ChatService, home: str, feed: ConversationFeed, position: FeedPosition) -> AsyncIterator[str]:
    """What the feed has after a position, which moves with every event, so that its id can be continued from."""
    version = feed.version
    if feed.whole > position.seen:
        tree = await asyncio.to_thread(service.store.tree, home)
        messages = [_current(feed, message) for message in tree.messages]
        position.lengths = {message.id: len(message.text) for message in messages}
        position.seen = version
        yield _event("conversation", conversation_values(tree, feed), position.write(feed))
    for identity, changed in list(feed.changed.items()):
        if position.seen < changed <= version:
            with suppress(MissingInputError):  # it was deleted since, after which everything is sent again
                message = _current(feed, await asyncio.to_thread(service.store.message, identity))
                position.seen, position.lengths[identity] = changed, len(message.text)
                yield _event("message", message_values(message, feed), position.write(feed))
    for live in list(feed.live.values()):
        message, start = live.message, position.lengths.get(live.message.id)
        if start is not None and len(message.text) > start:
            values = {"id": message.id, "start": start, "text": message.text[start:], "tokens": message.tokens}
            position.lengths[message.id] = len(message.text)
            timed = {**values, "milliseconds": message.milliseconds, "phase": live.phase}
            yield _event("text", timed, position.write(feed))
    position.seen = version


def conversation_values(tree: ConversationTree, feed: ConversationFeed | None = None) -> dict[str, Any]:
    """A conversation with its messages, and with the text of replies that are being written."""
    messages = [_current(feed, message) for message in tree.messages]
    return {**asdict(tree.conversation), "messages": [message_values(message, feed) for message in messages]}


def message_values(message: StoredMessage, feed: ConversationFeed | None = None) -> dict[str, Any]:
    """A message as the page gets it. One that has ended is in no phase, even while its end is being stored."""
    live = feed.live.get(message.id) if feed is not None and message.state == "writing" else None
    return {**asdict(message), "phase": live.phase if live is not None else ""}


def _current(feed: ConversationFeed | None, message: StoredMessage) -> StoredMessage:
    """The message with what is not stored yet."""
    live = feed.live.get(message.id) if feed is not None else None
    if live is None:
        return message
    judged = {name: getattr(message, name) for name in ("shown", "chosen", "vote", "comment")}
    return replace(live.message, **judged)


def _event(name: str, values: dict[str, Any], identity: str = "") -> str:
    """A server-sent event. identity: see ``after`` of ``conversation_events``; empty for no id."""
    head = f"id: {identity}\n" if identity else ""
    return f"{head}event: {name}\ndata: {json.dumps(values, ensure_ascii=False, allow_nan=False)}\n\n"
