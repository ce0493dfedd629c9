"""The chat with a server: the real one, whose replies are those of the model here, and servers that behave badly."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.apps.api_server import ApiAnswers, api_server, delta, event
from tests.serve.served import LOG, end_models, new_models, new_parts, running_server
from tunesmith.apps import chat, served_chat
from tunesmith.apps.api_client import base_address
from tunesmith.apps.chat_loop import ChatStreams
from tunesmith.apps.commands import COMMANDS
from tunesmith.errors import DataError, MissingInputError, TunesmithError, UsageError
from tunesmith.serve.app.exchange import read_request
from tunesmith.serve.app.settings import ApiKey, ServerSettings
from tunesmith.serve.chat.models import ChatModels, ModelPlaces
from tunesmith.serve.chat.routes import chat_router
from tunesmith.serve.chat.service import ChatService
from tunesmith.serve.conversations.store import ConversationStore
from tunesmith.serve.engine.load import LoadLimits
from tunesmith.serve.engine.models import ServedModels

KEY = "a key of this test"
GREEDY = {"do_sample": False, "max_new_tokens": 12}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def models(root: Path) -> Iterator[ServedModels]:
    found = new_models(root)
    yield found
    end_models(found)


@pytest.fixture(scope="module")
def server(models: ServedModels, root: Path) -> Iterator[str]:
    """The address of a server with a causal model and an encoder-decoder, and with the chat page."""
    parts = new_parts(models, replace(ServerSettings(), port=0))
    store = ConversationStore.open(root / "conversations")
    service = ChatService(
        store, ChatModels(models, ModelPlaces(parts.add, parts.remove), dict, LoadLimits(), LOG.append), LOG.append
    )
    router = chat_router(service, partial(read_request, limits=parts.settings.limits))
    with running_server(parts, [router]) as address:
        yield address
    store.close()


def _streams(*lines: str) -> tuple[ChatStreams, io.StringIO, io.StringIO]:
    output, errors = io.StringIO(), io.StringIO()
    return ChatStreams(io.StringIO("".join(f"{line}\n" for line in lines)), output, errors), output, errors


def _chat(url: str, *lines: str, **options: Any) -> tuple[str, str]:
    """What the chat writes to its output and to its error stream when it is given these lines."""
    streams, output, errors = _streams(*lines)
    served_chat.run(url, streams=streams, **options)
    return output.getvalue(), errors.getvalue()


def _bad_server(*parts: bytes, **settings: Any) -> ApiAnswers:
    return ApiAnswers(lambda: parts, **settings)


def test_replies_are_those_of_the_same_model_here(server: str, root: Path) -> None:
    lines = ("Say red, old and big.", "And small?", "/system Be brief.", "/retry")
    streams, output, _ = _streams(*lines)
    chat.run(str(root / "chatml"), sampling=GREEDY, streams=streams)
    served, errors = _chat(server, *lines, model="chatml", sampling=GREEDY)
    assert served == output.getvalue()
    assert served.strip()
    assert f"model chatml at {server}/v1, prompt format chatml, do_sample=false max_new_tokens=12" in errors


def test_a_seed_repeats_a_chat_and_a_retry_gives_another_reply(server: str) -> None:
    options: dict[str, Any] = {"model": "chatml", "sampling": {"temperature": 1.5, "max_new_tokens": 5}}
    first, _ = _chat(f"{server}/v1/", "Hello", "/retry", seed=5, **options)
    assert first == _chat(server, "Hello", "/retry", seed=5, **options)[0]
    assert first != _chat(server, "Hello", "/retry", seed=6, **options)[0]
    assert first != _chat(server, "Hello", seed=5, **options)[0] * 2


def test_the_draft_that_is_chosen_is_the_reply(server: str, tmp_path: Path) -> None:
    path = tmp_path / "chat.jsonl"
    settings = {"temperature": 1.5, "max_new_tokens": 12, "min_new_tokens": 3, "top_k": 40}
    lines = ("/set " + " ".join(f"{name}={value}" for name, value in settings.items()), "Hello", "/drafts 3", "2")
    _, errors = _chat(server, *lines, f"/save {path}", model="chatml", seed=7)
    assert "which one? 1 to 3, or nothing to keep the reply as it was:" in errors
    assert "(draft 2 is the reply)" in errors
    drafts = ApiAnswers(lambda: [delta("b", "stop", 1), delta("a"), delta(None, "length"), b"data: [DONE]\n\n"])
    with api_server(drafts) as url:
        output, errors = _chat(url, "Hello", "/drafts 2", "2", f"/save {path}2")
    assert "a\nb\n" in output
    assert "stopped at the limit of tokens" in errors
    assert json.loads(Path(f"{path}2").read_text())["messages"][-1] == {"role": "assistant", "content": "b"}
    assert [request.get("n") for request in drafts.asked] == [None, 2]


def test_every_message_to_an_encoder_decoder_begins_a_new_conversation(server: str) -> None:
    _, errors = _chat(server, "Hello", "Hello again", model="t5", sampling=GREEDY)
    assert "prompt format 't5-dolly' is for single turns" in errors


def test_commands_that_need_the_model_are_refused_by_name(server: str) -> None:
    for name in served_chat.ServedChatModel.commands_left_out:
        with pytest.raises(UsageError, match=f"/{name} needs the model"):
            _chat(server, f"/{name} x", model="chatml")
    _, errors = _chat(server, "/help", model="chatml")
    assert {name for name in COMMANDS if f"/{name}" in errors} == COMMANDS.keys() - {"context", "tokens"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "the server has 2 models: chatml, t5; name one: `tunesmith chat NAME --url URL`"),
        ({"model": "chat-ml"}, "no model 'chat-ml'; did you mean 'chatml'?"),
        ({"model": "chatml", "sampling": {"num_beams": 2}}, "num_beams cannot be set in a chat with a server"),
        ({"model": "chatml", "sampling": {"top_p": 7.0}}, "top_p=7.0 must be above 0 and at most 1"),
        ({"model": "chatml", "key": "two\nlines", "key_name": "THE_KEY"}, "THE_KEY: an API key has ASCII"),
    ],
)
def test_what_cannot_be_asked_of_the_server_is_refused(server: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        _chat(server, **options)
    assert message in str(caught.value)


def test_a_conversation_that_is_too_long_says_how_to_go_on(server: str) -> None:
    with pytest.raises(DataError, match=r"maximum context length is .* /reset begins a new conversation"):
        _chat(server, "red " * 3000, model="chatml")


def test_a_key_is_sent_and_its_variable_is_named_where_it_is_missing(models: ServedModels) -> None:
    settings = replace(ServerSettings(), port=0, key=ApiKey.of(KEY))
    with running_server(new_parts(models, settings)) as url:
        assert _chat(url, "Hello", model="chatml", key=KEY, sampling=GREEDY)[0]
        with pytest.raises(UsageError, match=r"refuses access .status 401.; put the key .* variable THE_KEY"):
            _chat(url, "Hello", model="chatml", key_name="THE_KEY")


def test_a_server_that_cannot_be_reached_is_reported() -> None:
    with api_server(_bad_server()) as url:
        pass
    with pytest.raises(MissingInputError, match="no server can be reached; check the address"):
        _chat(url, "Hello")


def test_a_server_without_streams_and_without_a_list_of_models_is_used() -> None:
    whole = {"choices": [{"index": 0, "message": {"content": "\ud83d\ude00 \x1b[31m"}, "finish_reason": "stop"}]}
    answers = _bad_server(json.dumps(whole).encode(), kind="application/json; charset=utf-8", models=None)
    with api_server(answers) as url:
        output, errors = _chat(url, "Hello", model="any", sampling={"do_sample": False})
        with pytest.raises(DataError, match="status 404"):
            _chat(url, "Hello")
    assert output == "😀 \\x1b[31m\n"
    assert f"model any at {url}/v1, do_sample=false" in errors
    message = {"role": "user", "content": "Hello"}
    assert answers.asked == [{"model": "any", "messages": [message], "temperature": 0, "stream": True}]


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (_bad_server(delta("half")), "the server ended the reply before it was complete"),
        (
            _bad_server(delta("half"), event({"error": {"message": "Out of\nmemory."}})),
            "the server says: Out of memory",
        ),
        (
            _bad_server(b'{"error": "busy"}', status=503, kind="application/json"),
            "the server says: busy; try again later",
        ),
        (_bad_server(b"<html>", kind="text/html"), "the server answers in another form than OpenAI's API"),
        (_bad_server(b"data: [1]\n\n"), "the server answers in another form than OpenAI's API"),
    ],
    ids=["cut", "error", "busy", "html", "list"],
)
def test_a_reply_that_fails_is_an_error_and_what_was_shown_ends_with_a_line(answers: ApiAnswers, message: str) -> None:
    streams, output, _ = _streams("Hello")
    with api_server(answers) as url, pytest.raises(TunesmithError) as caught:
        served_chat.run(url, streams=streams)
    assert message in str(caught.value)
    assert output.getvalue() in ("", "half\n")


def test_another_end_of_a_reply_is_shown_in_the_words_of_the_server() -> None:
    with api_server(_bad_server(delta("half", "content_filter"))) as url:
        assert "(the server ended the reply: content_filter)" in _chat(url, "Hello")[1]


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000", "ftp://x", "http://", "http://me:pw@x", "http://x?a=1", "\x00"])
def test_what_is_no_address_of_a_server_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="--url"):
        base_address(url)


def test_an_address_without_a_path_is_that_of_a_server() -> None:
    for url in ("http://x:1", "http://x:1/", "http://x:1/v1", "http://x:1/v1/", "http://x:1/v1/chat/completions"):
        assert str(base_address(url)) == "http://x:1/v1"
    assert str(base_address("https://x/openai/")) == "https://x/openai"
