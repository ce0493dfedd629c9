"""What the HTTP interface of the chat page refuses, and that it answers anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.serve.chat.chats import Chat, run_chat
from tunesmith.serve.app.factory import ServerParts
from tunesmith.serve.chat.routes import ROUTES
from tunesmith.serve.conversations.records import new_id

BAD: list[tuple[str, str, Any, int]] = [
    ("POST", "/api/conversations", {"id": "../x"}, 400),
    ("POST", "/api/conversations", {"id": "a", "other": 1}, 400),
    ("POST", "/api/conversations", [], 400),
    ("GET", "/api/conversations/none", None, 404),
    ("GET", "/api/conversations/none/events", None, 404),
    ("PATCH", "/api/conversations/none", {"title": "x"}, 404),
    ("PATCH", "/api/conversations/none", {"title": 3}, 400),
    ("DELETE", "/api/conversations/none", None, 404),
    ("POST", "/api/messages/none/vote", {"vote": 2}, 400),
    ("POST", "/api/messages/none/vote", {"vote": True}, 400),
    ("POST", "/api/messages/none/show", {}, 404),
    ("GET", "/api/messages/none/prompt", None, 404),
    ("GET", "/api/export?format=exe", None, 400),
    ("GET", "/api/export?conversation=none", None, 404),
    ("GET", "/api/conversations?query=" + "x" * 201, None, 400),
    ("POST", "/api/nothing", {}, 404),
    ("PUT", "/api/conversations", {}, 405),
]


def test_wrong_requests_are_refused_in_the_form_of_the_api(parts: ServerParts, tmp_path: Path) -> None:
    async def work(chat: Chat) -> None:
        for method, path, body, status in BAD:
            found = await chat.ask(method, path, body, status)
            assert found["error"]["message"], path
            assert str(tmp_path) not in json.dumps(found)
        home = await chat.new()
        answers = {"models": ["../../etc/passwd"]}
        body = {"id": new_id(), "parent": None, "text": "x", "answers": answers}
        await chat.ask("POST", f"/api/conversations/{home}/send", body, 404)
        body["answers"] = {"models": ["chatml"] * 4, "drafts": 4}
        await chat.ask("POST", f"/api/conversations/{home}/send", body, 400)
        body["answers"] = {"models": ["chatml"], "sampling": {"top_p": 7.0}}
        refused = await chat.ask("POST", f"/api/conversations/{home}/send", body, 400)
        assert "Top_p=7.0 must be above 0" in refused["error"]["message"]
        assert await chat.tree(home) == {}, "nothing of a refused request is stored"

    run_chat(parts, tmp_path, work)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.data())
@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_body_and_any_id_is_answered_without_an_error_of_the_server(
    parts: ServerParts, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    async def work(chat: Chat) -> None:
        home = await chat.new()
        question, reply = await chat.send(home, "Hello")
        await chat.ended(home)
        for method, path, schema, _ in ROUTES * 2:
            identity = data.draw(st.sampled_from((home, question["id"], reply["id"])) | st.text(min_size=1, max_size=5))
            names = st.sampled_from((*(schema.model_fields if schema else ()), "other"))
            body = data.draw(st.dictionaries(names, JSON | st.sampled_from((home, reply["id"])), max_size=4) | JSON)
            if path.endswith("/events"):
                continue
            url = path.replace("{id}", quote(identity, safe="", errors="replace"))
            content = json.dumps(body).encode() if schema else b""
            headers = {"content-type": "application/json"} if schema else {}
            answer = await chat.client.request(method, url, content=content, headers=headers)
            assert answer.status_code in (200, 400, 404, 405), (method, url, body, answer.text)
            assert answer.status_code == 200 or answer.json()["error"]["message"]

    run_chat(parts, tmp_path_factory.mktemp("fuzz"), work)


@pytest.mark.parametrize("text", ["half \ud800", "nul \0"])
def test_texts_that_no_file_can_hold_are_refused(parts: ServerParts, tmp_path: Path, text: str) -> None:
    async def work(chat: Chat) -> None:
        home = await chat.new()
        body = {"id": new_id(), "parent": None, "text": text}
        await chat.ask("POST", f"/api/conversations/{home}/send", body, 400)
        assert await chat.tree(home) == {}

    run_chat(parts, tmp_path, work)
