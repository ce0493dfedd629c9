"""What all who watch a conversation get of it, whenever they come and however often their connections are lost."""

from __future__ import annotations

import asyncio
import random
import threading
from pathlib import Path

import pytest

from tests.serve.chat.chats import LONG, Chat, Watcher, run_chat
from tunesmith.serve.app.factory import ServerParts
from tunesmith.serve.chat.events import conversation_events
from tunesmith.serve.conversations.records import StoredMessage
from tunesmith.serve.conversations.store import ConversationStore


def test_two_watchers_get_the_whole_reply_and_a_late_one_joins_in(parts: ServerParts, tmp_path: Path) -> None:
    async def work(chat: Chat) -> None:
        home = await chat.new()
        early, late = Watcher(), Watcher()
        tasks = [asyncio.create_task(early.follow(chat.service, home))]
        _, reply = await chat.send(home, "Hello", sampling=LONG)
        while len((await chat.tree(home))[reply["id"]]["text"]) < 20:
            await asyncio.sleep(0.005)
        tasks.append(asyncio.create_task(late.follow(chat.service, home)))
        expected = await chat.ended(home)
        await asyncio.sleep(0.3)
        for watcher in (early, late):
            assert watcher.messages[reply["id"]]["text"] == expected[reply["id"]]["text"]
            assert watcher.messages[reply["id"]]["state"] == "done"
            assert "text" in watcher.events
        await chat.ask("DELETE", f"/api/conversations/{home}")
        await asyncio.wait_for(asyncio.gather(*tasks), 5)
        assert early.events[-1] == late.events[-1] == "gone"

    run_chat(parts, tmp_path, work)


def test_a_lost_connection_is_continued_without_an_event_lost_or_twice(parts: ServerParts, tmp_path: Path) -> None:
    async def work(chat: Chat) -> None:
        home = await chat.new()
        watcher, steady = Watcher(), Watcher()
        whole = asyncio.create_task(steady.follow(chat.service, home))  # keeps the feed in use
        pieces = asyncio.create_task(watcher.follow_in_pieces(chat.service, home, random.Random(3)))
        sent = 0
        while "text" not in watcher.events:  # on a fast machine a reply may be written while the connection is lost
            question, reply = await chat.send(home, "Hello", sampling=LONG)
            sent += 1
            while len((await chat.tree(home))[reply["id"]]["text"]) < 60:
                await asyncio.sleep(0.005)
        await chat.message(reply["id"], "vote", {"vote": 1})
        await chat.message(reply["id"], "comment", {"text": "hm"})
        await chat.send(home, "And now?", question["id"], models=["chatml"] * 2)
        expected = await chat.ended(home)
        while watcher.messages != expected and not pieces.done():
            await asyncio.sleep(0.05)
        assert watcher.messages == expected
        assert watcher.events.count("conversation") <= steady.events.count("conversation") == 2 + sent
        pieces.cancel()
        whole.cancel()

    run_chat(parts, tmp_path, work)


def test_a_reply_whose_end_is_being_stored_is_in_no_phase(
    parts: ServerParts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise two views of the same reply differ, by when the disk was ready."""
    seen = threading.Event()
    write = ConversationStore.write_reply

    def write_late(store: ConversationStore, message: StoredMessage) -> None:
        assert seen.wait(30)
        write(store, message)

    async def work(chat: Chat) -> None:
        home = await chat.new()
        _, reply = await chat.send(home, "Hello")
        ended = await chat.ended(home)
        assert chat.service.feeds.find_live(reply["id"]) is not None, "it is not stored yet"
        seen.set()
        while chat.service.feeds.find_live(reply["id"]) is not None:
            await asyncio.sleep(0.01)
        assert await chat.tree(home) == ended

    monkeypatch.setattr(ConversationStore, "write_reply", write_late)
    run_chat(parts, tmp_path, work)


def test_a_stream_continues_only_its_own_feed(parts: ServerParts, tmp_path: Path) -> None:
    async def work(chat: Chat) -> None:
        home = await chat.new()
        watcher = Watcher()
        events = conversation_events(chat.service, home)
        watcher.take(await anext(events))
        feed = chat.service.feeds.of(home)
        for after in ("", "x", f"{feed.name}0.1", watcher.last + ".y", f"{feed.name}.-1"):
            other = conversation_events(chat.service, home, after)
            assert "event: conversation\n" in await anext(other), after
            await other.aclose()
        for after in (watcher.last, f"{feed.name}.{10**14}"):
            other = conversation_events(chat.service, home, after)
            waiting = asyncio.ensure_future(anext(other))
            await asyncio.sleep(0.1)
            assert not waiting.done(), "nothing has happened"
            await chat.ask("PATCH", f"/api/conversations/{home}", {"title": "new"})
            assert '"title": "new"' in await waiting
            await other.aclose()
            watcher.take(await anext(events))
        await events.aclose()

    run_chat(parts, tmp_path, work)
