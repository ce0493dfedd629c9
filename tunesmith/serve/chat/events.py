"""The stream of one conversation, as server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

from tunesmith.errors import MissingInputError
from tunesmith.serve.chat.feeds import ConversationFeed
from tunesmith.serve.chat.service import ChatService
from tunesmith.serve.conversations.records import ConversationTree, StoredMessage

HEARTBEAT = 15.0
"""Seconds after which something is sent in any case, so that both sides notice a lost connection."""

PAUSE = 0.03
"""Seconds between two events at least: more is not seen."""


async def conversation_events(service: ChatService, home: str) -> AsyncIterator[str]:
    """What happens in a conversation, from the state at the beginning on:

    conversation: the whole tree. message: one message that is new or has changed. text: an addition to the text of a
    reply, with the number of characters before it. gone: the conversation was deleted. bye: the server is stopping.
    Raises MissingInputError for a conversation that does not exist.
    """
    feed = service.feeds.of(home)
    feed.watchers += 1
    seen, sent = 0, dict[str, int]()
    try:
        while not (feed.gone or feed.closed):
            version = feed.version
            if feed.whole > seen:
                tree = await asyncio.to_thread(service.store.tree, home)
                yield _event("conversation", conversation_values(tree, feed))
                sent = _lengths(feed, tree)
            else:
                for identity in [name for name, changed in feed.changed.items() if changed > seen]:
                    with suppress(MissingInputError):  # it was deleted since, after which everything is sent again
                        message = _current(feed, await asyncio.to_thread(service.store.message, identity))
                        yield _event("message", message_values(message, feed))
                        sent[identity] = len(message.text)
            for live in list(feed.live.values()):
                message, start = live.message, sent.get(live.message.id)
                if start is not None and len(message.text) > start:
                    values = {"id": message.id, "start": start, "text": message.text[start:], "tokens": message.tokens}
                    yield _event("text", {**values, "milliseconds": message.milliseconds, "phase": live.phase})
                    sent[message.id] = len(message.text)
            seen = version
            await asyncio.sleep(PAUSE)
            while not await feed.wait(seen, HEARTBEAT):
                yield ": still here\n\n"
        yield _event("gone" if feed.gone else "bye", {})
    finally:
        feed.watchers -= 1
        service.feeds.forget_unused()


def conversation_values(tree: ConversationTree, feed: ConversationFeed | None = None) -> dict[str, Any]:
    """A conversation with its messages, and with the text of replies that are being written."""
    messages = [_current(feed, message) for message in tree.messages]
    return {**asdict(tree.conversation), "messages": [message_values(message, feed) for message in messages]}


def message_values(message: StoredMessage, feed: ConversationFeed | None = None) -> dict[str, Any]:
    """A message as the page gets it."""
    live = feed.live.get(message.id) if feed is not None else None
    return {**asdict(message), "phase": live.phase if live is not None else ""}


def _current(feed: ConversationFeed | None, message: StoredMessage) -> StoredMessage:
    """The message with what is not stored yet."""
    live = feed.live.get(message.id) if feed is not None else None
    if live is None:
        return message
    judged = {name: getattr(message, name) for name in ("shown", "chosen", "vote", "comment")}
    return replace(live.message, **judged)


def _lengths(feed: ConversationFeed, tree: ConversationTree) -> dict[str, int]:
    return {message.id: len(_current(feed, message).text) for message in tree.messages}


def _event(name: str, values: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(values, ensure_ascii=False, allow_nan=False)}\n\n"
