"""What people do on the chat page, through its HTTP interface, with real models."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.serve.chat.chats import LONG, SHORT, Chat, Watcher, run_chat
from tunesmith.serve.app.factory import ServerParts
from tunesmith.serve.chat.events import conversation_events
from tunesmith.serve.chat.service import ChatService
from tunesmith.serve.conversations.records import StoredMessage
from tunesmith.serve.conversations.store import ConversationStore


def test_a_message_gets_a_reply_that_is_repeated_with_its_seed(parts: ServerParts, tmp_path: Path) -> None:
    async def work(chat: Chat) -> None:
        home = await chat.new()
        question, reply = await chat.send(home, "Hello")
        assert (question["role"], reply["role"], reply["state"]) == ("user", "assistant", "writing")
        messages = await chat.ended(home)
        first = messages[reply["id"]]
        assert (first["state"], first["finish"], first["tokens"]) == ("done", "length", 6)
        assert first["prompt_tokens"] > 0
        assert first["sampling"]["max_new_tokens"] == 6
        _, again = await chat.send(home, "Hello", seed=first["seed"])
        assert (await chat.ended(home))[again["id"]]["text"] == first["text"]

    run_chat(parts, tmp_path, work)


def test_the_same_request_twice_is_one_message_with_one_reply(parts: ServerParts, tmp_path: Path) -> None:
    async def work(chat: Chat) -> None:
        home = await chat.new()
        body = {"id": "m", "parent": None, "text": "Hello", "answers": {"models": ["chatml"], "sampling": SHORT}}
        for _ in range(2):
            await chat.ask("POST", f"/api/conversations/{home}/send", body)
        assert len(await chat.ended(home)) == 2
        await chat.ask("POST", f"/api/conversations/{home}/send", {**body, "text": "Other"}, status=400)

    run_chat(parts, tmp_path, work)


def test_a_request_that_is_repeated_at_once_begins_one_reply(parts: ServerParts, tmp_path: Path) -> None:
    async def work(chat: Chat) -> None:
        home = await chat.new()
        body = {"id": "m", "parent": None, "text": "Hello", "answers": {"models": ["chatml"], "sampling": SHORT}}
        await asyncio.gather(*(chat.ask("POST", f"/api/conversations/{home}/send", body) for _ in range(8)))
        messages = await chat.ended(home)
        assert len(messages) == 2
        (reply,) = (name for name in messages if name != "m")
        asked = [chat.client.post(f"/api/messages/{reply}/continue", json={"sampling": SHORT}) for _ in range(4)]
        statuses = [answer.status_code for answer in await asyncio.gather(*asked)]
        assert sorted(statuses) == [200, 400, 400, 400]
        assert (await chat.ended(home))[reply]["tokens"] == 12

    run_chat(parts, tmp_path, work)


@pytest.mark.parametrize("moment", ["before it begins", "while it is stored"])
def test_a_reply_can_be_stopped_at_any_moment(
    parts: ServerParts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    async def work(chat: Chat) -> None:
        service, begin, write, stopping = chat.service, ChatService._begin, ConversationStore.write_reply, set[Any]()
        loop = asyncio.get_running_loop()

        def stop(name: str) -> None:
            stopping.add(loop.create_task(service.stop(name)))

        def begin_and_stop(own: ChatService, reply: StoredMessage, writing: Any) -> None:
            begin(own, reply, writing)
            (live,) = service.feeds.live()
            assert live.generation is not None
            live.stopped = live.generation.cancel()

        def stop_and_write(own: ConversationStore, message: StoredMessage) -> None:
            loop.call_soon_threadsafe(stop, message.id)
            time.sleep(0.05)
            write(own, message)

        if moment == "before it begins":
            monkeypatch.setattr(ChatService, "_begin", begin_and_stop)
        else:
            monkeypatch.setattr(ConversationStore, "write_reply", stop_and_write)
        home = await chat.new()
        reply = (await chat.send(home, "Hello"))[1]
        for _ in range(300):
            await asyncio.sleep(0.01)
            if not service.feeds.live():
                break
        assert service.feeds.live() == []
        wanted = "stopped" if moment == "before it begins" else "done"
        assert service.store.message(reply["id"]).state == wanted

    run_chat(parts, tmp_path, work)


def test_drafts_of_two_models_are_written_and_one_is_chosen(parts: ServerParts, tmp_path: Path) -> None:
    async def work(chat: Chat) -> None:
        home = await chat.new()
        _, *replies = await chat.send(home, "Hello", models=["chatml", "t5"], drafts=2)
        messages = await chat.ended(home)
        assert [messages[reply["id"]]["model"] for reply in replies] == ["chatml", "chatml", "t5", "t5"]
        assert len({messages[reply["id"]]["drafts"] for reply in replies}) == 1
        texts = [messages[reply["id"]]["text"] for reply in replies]
        assert texts[0] != texts[1], "drafts have different random numbers"
        await chat.message(replies[2]["id"], "choose")
        messages = await chat.tree(home)
        assert [messages[reply["id"]]["chosen"] for reply in replies] == [False, False, True, False]
        assert [messages[reply["id"]]["shown"] for reply in replies] == [False, False, True, False]

    run_chat(parts, tmp_path, work)


def test_a_stopped_reply_keeps_its_text_and_can_be_continued(parts: ServerParts, tmp_path: Path) -> None:
    async def work(chat: Chat) -> None:
        home = await chat.new()
        _, reply = await chat.send(home, "Hello", sampling=LONG)
        while len((await chat.tree(home))[reply["id"]]["text"]) < 5:
            await asyncio.sleep(0.005)
        await chat.message(reply["id"], "stop")
        stopped = (await chat.tree(home))[reply["id"]]
        assert stopped["state"] == "stopped"
        assert 0 < stopped["tokens"] < 400
        await chat.message(reply["id"], "continue", {"sampling": SHORT})
        longer = (await chat.ended(home))[reply["id"]]
        assert longer["text"].startswith(stopped["text"])
        assert longer["tokens"] == stopped["tokens"] + 6
        assert longer["prompt_tokens"] > stopped["prompt_tokens"]

    run_chat(parts, tmp_path, work)


def test_an_edited_reply_is_a_version_and_later_prompts_read_it(parts: ServerParts, tmp_path: Path) -> None:
    async def work(chat: Chat) -> None:
        home = await chat.new("Be kind.")
        _, reply = await chat.send(home, "Hello")
        await chat.ended(home)
        await chat.message(reply["id"], "edit", {"id": "mine", "text": "My own words"})
        messages = await chat.tree(home)
        assert (messages["mine"]["shown"], messages["mine"]["edit_of"]) == (True, reply["id"])
        _, last = await chat.send(home, "And now?", "mine")
        await chat.ended(home)
        view = await chat.ask("GET", f"/api/messages/{last['id']}/prompt")
        text = "".join(token["text"] for token in view["tokens"])
        assert all(part in text for part in ("Be kind.", "Hello", "My own words", "And now?"))
        assert {token["role"] for token in view["tokens"]} == {"system", "user", "assistant"}
        assert any(token["control"] for token in view["tokens"])
        assert view["count"] == (await chat.tree(home))[last["id"]]["prompt_tokens"]

    run_chat(parts, tmp_path, work)


def test_a_retry_is_another_version_next_to_the_first(parts: ServerParts, tmp_path: Path) -> None:
    async def work(chat: Chat) -> None:
        home = await chat.new()
        question, reply = await chat.send(home, "Hello")
        await chat.ended(home)
        body = {"answers": {"models": ["chatml"], "sampling": SHORT}}
        (retried,) = (await chat.message(reply["id"], "retry", body))["messages"]
        messages = await chat.ended(home)
        assert messages[retried["id"]]["parent"] == question["id"]
        assert messages[retried["id"]]["text"] != messages[reply["id"]]["text"]
        assert messages[retried["id"]]["drafts"] == ""
        await chat.message(reply["id"], "show")
        assert (await chat.tree(home))[reply["id"]]["shown"]

    run_chat(parts, tmp_path, work)


def test_the_end_of_the_server_ends_streams_and_keeps_what_was_written(parts: ServerParts, tmp_path: Path) -> None:
    async def work(chat: Chat) -> Any:
        home = await chat.new()
        watcher = Watcher()
        task = asyncio.create_task(watcher.follow(chat.service, home))
        _, reply = await chat.send(home, "Hello", sampling=LONG)
        while len((await chat.tree(home))[reply["id"]]["text"]) < 5:
            await asyncio.sleep(0.005)
        await chat.service.close()
        await asyncio.wait_for(task, 5)
        assert watcher.events[-1] == "bye"
        return (await chat.tree(home))[reply["id"]]

    reply = run_chat(parts, tmp_path, work)
    stored = ConversationStore.open(tmp_path).message(reply["id"])
    assert (stored.state, stored.text) == ("interrupted", reply["text"])
    assert len(stored.text) >= 5


def test_deleting_stops_what_is_written_there(parts: ServerParts, tmp_path: Path) -> None:
    async def work(chat: Chat) -> None:
        home = await chat.new()
        question, reply = await chat.send(home, "Hello", sampling=LONG)
        await chat.ask("DELETE", f"/api/messages/{question['id']}")
        assert await chat.tree(home) == {}
        assert chat.service.feeds.live() == []
        await chat.message(reply["id"], "stop")
        await chat.message(reply["id"], "vote", {"vote": 1}, status=404)

    run_chat(parts, tmp_path, work)


def test_a_deleted_conversation_comes_back_from_its_file(parts: ServerParts, tmp_path: Path) -> None:
    async def work(chat: Chat) -> None:
        home = await chat.new()
        await chat.send(home, "Hello")
        await chat.ended(home)
        text = (await chat.client.get(f"/api/export?conversation={home}")).text
        await chat.ask("DELETE", f"/api/conversations/{home}")
        await chat.ask("POST", "/api/import", {"text": text})
        events = conversation_events(chat.service, home)
        assert "event: conversation\n" in await anext(events)
        await events.aclose()

    run_chat(parts, tmp_path, work)


def test_settings_beyond_what_a_model_has_are_answered(parts: ServerParts, tmp_path: Path) -> None:
    async def work(chat: Chat) -> None:
        home = await chat.new()
        replies = (await chat.send(home, "Hello", drafts=4, sampling={"max_new_tokens": 10**6}))[1:]
        messages = await chat.ended(home)
        assert {messages[reply["id"]]["state"] for reply in replies} == {"done"}
        wrong = {"id": "b", "parent": "a", "role": "assistant", "text": "x", "model": "chatml"}
        asked = {"id": "a", "parent": None, "role": "user", "text": "q"}
        for sampling in ({"top_k": -5}, {"temperature": 1e300}, {"do_sample": "x"}):
            record = {"kind": "tunesmith conversation", "version": 1, "id": "other", "messages": [asked]}
            record["messages"] = [asked, {**wrong, "sampling": sampling}]
            await chat.ask("POST", "/api/import", {"text": json.dumps(record)})
            (reply,) = (name for name, each in (await chat.tree("other")).items() if each["role"] == "assistant")
            await chat.ask("GET", f"/api/messages/{reply}/prompt", status=400)
            await chat.ask("DELETE", "/api/conversations/other")

    run_chat(parts, tmp_path, work)


def test_votes_comments_titles_and_the_switch_for_training_are_kept(parts: ServerParts, tmp_path: Path) -> None:
    async def work(chat: Chat) -> None:
        home = await chat.new()
        question, reply = await chat.send(home, "Hello")
        await chat.ended(home)
        await chat.message(reply["id"], "vote", {"vote": -1})
        await chat.message(reply["id"], "comment", {"text": "too short"})
        await chat.message(question["id"], "vote", {"vote": 1}, status=400)
        found = (await chat.tree(home))[reply["id"]]
        assert (found["vote"], found["comment"]) == (-1, "too short")
        assert (await chat.ask("GET", f"/api/conversations/{home}"))["feedback"] is False
        await chat.ask("PATCH", f"/api/conversations/{home}", {"feedback": True, "title": "Mine"})
        (listed,) = (await chat.ask("GET", "/api/conversations?query=mine"))["conversations"]
        assert (listed["feedback"], listed["title"], listed["messages"]) == (True, "Mine", 2)

    run_chat(parts, tmp_path, work)


def test_conversations_leave_as_a_file_and_come_back(parts: ServerParts, tmp_path: Path) -> None:
    async def work(chat: Chat) -> str:
        home = await chat.new()
        await chat.send(home, "Hello", drafts=2)
        await chat.ended(home)
        return (await chat.client.get("/api/export?format=jsonl")).text

    text = run_chat(parts, tmp_path / "one", work)

    async def take(chat: Chat) -> None:
        assert await chat.ask("POST", "/api/import", {"name": "f", "text": text}) == {"added": 1, "known": 0}
        assert await chat.ask("POST", "/api/import", {"name": "f", "text": text}) == {"added": 0, "known": 1}
        refused = await chat.ask("POST", "/api/import", {"name": "f", "text": "{}"}, status=400)
        assert "conversation" in refused["error"]["message"]
        (listed,) = (await chat.ask("GET", "/api/conversations"))["conversations"]
        assert (listed["title"], listed["messages"]) == ("Hello", 3)

    run_chat(parts, tmp_path / "two", take)


def test_a_model_is_opened_when_somebody_chats_with_it(parts: ServerParts, tmp_path: Path) -> None:
    async def work(chat: Chat) -> None:
        found = {model["name"]: model for model in (await chat.ask("GET", "/api/state"))["models"]}
        assert (found["chatml"]["open"], found["later"]["open"], found["broken"]["open"]) == (True, False, False)
        assert (found["chatml"]["multi_turn"], found["t5"]["continues"]) == (True, False)
        home = await chat.new()
        _, refused = await chat.send(home, "Hello", models=["broken"])
        message = (await chat.ended(home))[refused["id"]]
        assert (message["state"], message["text"]) == ("failed", "")
        assert "cannot be opened" in message["error"]
        assert str(tmp_path) not in message["error"], "no path"

    run_chat(parts, tmp_path, work, later=str(tmp_path), broken=str(tmp_path))


def test_the_oldest_messages_are_left_out_and_the_reply_says_so(parts: ServerParts, tmp_path: Path) -> None:
    async def work(chat: Chat) -> None:
        home, parent = await chat.new(), None
        context = next(m for m in (await chat.ask("GET", "/api/state"))["models"] if m["name"] == "chatml")["context"]
        for number in range(4):
            _, reply = await chat.send(home, f"{number} " * (context // 5), parent)
            parent = reply["id"]
            await chat.ended(home)
        last = (await chat.ended(home))[parent]
        assert last["dropped"] > 0, (context, last["prompt_tokens"], last["error"])
        assert last["state"] == "done"
        _, reply = await chat.send(home, "long " * context)
        failed = (await chat.ended(home))[reply["id"]]
        assert failed["state"] == "failed"
        assert "leaves no tokens for a reply" in failed["error"]

    run_chat(parts, tmp_path, work)


def test_a_send_that_is_cancelled_while_it_is_stored_begins_its_replies(
    parts: ServerParts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that stops cancels the requests that take too long."""
    adding, cancelled = threading.Event(), threading.Event()
    add = ConversationStore.add

    def add_late(store: ConversationStore, *given: Any) -> Any:
        adding.set()
        assert cancelled.wait(30)
        return add(store, *given)

    async def work(chat: Chat) -> None:
        home = await chat.new()
        monkeypatch.setattr(ConversationStore, "add", add_late)
        sending = asyncio.create_task(chat.send(home, "Hello"))
        await asyncio.to_thread(adding.wait, 30)
        sending.cancel()
        await asyncio.wait([sending])
        assert sending.cancelled()
        cancelled.set()
        while len(await chat.tree(home)) < 2:
            await asyncio.sleep(0.01)
        (reply,) = (each for each in (await chat.ended(home)).values() if each["role"] == "assistant")
        assert reply["state"] == "done"

    run_chat(parts, tmp_path, work)
