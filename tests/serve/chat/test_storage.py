"""The chat when its database cannot be written or read: nothing is lost that was said to be stored."""

from __future__ import annotations

import asyncio
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.serve.chat.chats import LONG, SHORT, Chat, run_chat
from tests.serve.served import LOG
from tunesmith.serve.app.factory import ServerParts
from tunesmith.serve.conversations.database import FILE
from tunesmith.serve.conversations.records import new_id
from tunesmith.serve.conversations.store import ConversationStore


def allow_writing(store: ConversationStore, allowed: bool) -> None:
    """Whether SQLite can write the file. `tests.campaigns.serve_disk` does the same with a disk that is full."""
    store._connection.execute(f"PRAGMA query_only={'OFF' if allowed else 'ON'}")


def test_where_nothing_can_be_written_a_message_is_refused_and_a_reply_is_kept_until_it_can_be_stored(
    parts: ServerParts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunesmith.serve.chat.service.TRIED_EVERY", 0.05)
    monkeypatch.setattr("tunesmith.serve.chat.service.SAVED_EVERY", 0.05)

    async def work(chat: Chat) -> Any:
        home = await chat.new()
        question, reply = await chat.send(home, "Hello", sampling=LONG)
        allow_writing(chat.service.store, False)
        body = {"id": new_id(), "parent": question["id"], "text": "Anybody?"}
        refused = await chat.ask("POST", f"/api/conversations/{home}/send", body, 507)
        assert "cannot be written: attempt to write a readonly database; free disk" in refused["error"]["message"]
        while not (shown := (await chat.tree(home))[reply["id"]])["error"]:
            await asyncio.sleep(0.01)
        assert "not on the disk yet" in shown["error"]
        assert shown["state"] == "done"
        await chat.message(reply["id"], "stop")
        allow_writing(chat.service.store, True)
        for _ in range(200):
            if not chat.service.feeds.live():
                break
            await asyncio.sleep(0.05)
        stored = (await chat.tree(home))[reply["id"]]
        assert (stored["text"], stored["error"]) == (shown["text"], "")
        assert (await chat.ask("POST", f"/api/conversations/{home}/send", body))["messages"][0]["text"] == body["text"]
        return stored

    stored = run_chat(parts, tmp_path, work)
    assert len(LOG) == 2, "once for the message, once for the reply"
    assert all(f"{tmp_path / FILE}: the conversations cannot be written" in entry.message for entry in LOG)
    assert ConversationStore.open(tmp_path).message(stored["id"]).text == stored["text"]
    LOG.clear()


def test_the_end_of_the_server_does_not_wait_for_a_disk(parts: ServerParts, tmp_path: Path) -> None:
    async def work(chat: Chat) -> None:
        home = await chat.new()
        await chat.send(home, "Hello", sampling=LONG)
        allow_writing(chat.service.store, False)
        await asyncio.wait_for(chat.service.close(), 10)

    run_chat(parts, tmp_path, work)
    assert LOG[-1].message == "The end of a reply is lost."
    LOG.clear()


def test_a_database_that_is_damaged_while_it_is_used_is_an_error_of_the_server(
    parts: ServerParts, tmp_path: Path
) -> None:
    async def work(chat: Chat) -> None:
        home = await chat.new()
        body = {"id": new_id(), "parent": None, "text": "word " * 2000}
        await chat.ask("POST", f"/api/conversations/{home}/send", body)
        chat.service.store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = (tmp_path / FILE).stat().st_size
        shutil.copy(tmp_path / FILE, tmp_path / "kept")
        with (tmp_path / FILE).open("r+b") as file:
            file.write(b"\xff" * size)
        chat.service.store._connection.execute("PRAGMA shrink_memory")
        for method, path, body in (
            ("GET", f"/api/conversations/{home}", None),
            ("POST", f"/api/conversations/{home}/send", {"id": new_id(), "parent": None, "text": "x"}),
        ):
            error = (await chat.ask(method, path, body, 500))["error"]
            assert (error["type"], error["param"], error["code"]) == ("server_error", None, None)
            assert "damaged" in error["message"]
            assert str(tmp_path) not in error["message"]
        shutil.copy(tmp_path / "kept", tmp_path / FILE)

    run_chat(parts, tmp_path, work)
    assert len(LOG) == 2
    assert all(str(tmp_path / FILE) in entry.message and "damaged" in entry.message for entry in LOG)
    LOG.clear()


def test_a_message_is_sent_and_a_reply_retried_with_one_look_at_the_conversation(
    parts: ServerParts, tmp_path: Path
) -> None:
    async def work(chat: Chat) -> None:
        home, statements = await chat.new(), list[str]()
        chat.service.store._connection.set_trace_callback(statements.append)
        _, reply = (await chat.send(home, "Hello", drafts=2))[:2]
        assert sum("FROM messages WHERE conversation = " in text for text in statements) == 1
        statements.clear()
        await chat.message(reply["id"], "retry", {"answers": {"models": ["chatml"], "sampling": SHORT}})
        assert sum("FROM messages WHERE conversation = " in text for text in statements) == 1
        await chat.ended(home)

    run_chat(parts, tmp_path, work)


def test_a_reply_that_begins_while_the_server_ends_is_interrupted_and_no_other_begins(
    parts: ServerParts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add, storing, stored = ConversationStore.add, threading.Event(), threading.Event()

    def add_slowly(*arguments: Any) -> Any:
        storing.set()
        assert stored.wait(10)
        return add(*arguments)

    async def work(chat: Chat) -> None:
        home = await chat.new()
        monkeypatch.setattr(ConversationStore, "add", add_slowly)
        sent = asyncio.create_task(chat.send(home, "Hello", sampling=LONG))
        assert await asyncio.to_thread(storing.wait, 10)
        closing = asyncio.create_task(chat.service.close())
        await asyncio.sleep(0.01)
        stored.set()
        _, reply = await sent
        await closing
        assert chat.service.store.message(reply["id"]).state == "interrupted"
        await chat.message(reply["id"], "retry", {"answers": {"models": ["chatml"]}}, status=503)

    run_chat(parts, tmp_path, work)
