"""OpenAI's own client, unmodified: every answer is parsed strictly with its types, and a stream says what a whole
answer says."""

from __future__ import annotations

import copy
from typing import Any

import httpx
import openai
import pytest
from openai.types import Completion, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from tests.serve.openai.strict import parse
from tests.serve.served import MESSAGES, events, openai_client, post, run, running_server
from tunesmith.serve.app.factory import ServerParts

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
SAMPLED = {"temperature": 1.0, "seed": 11, "max_tokens": 24}
CASES: list[dict[str, Any]] = [
    {"temperature": 0},
    {**SAMPLED, "n": 3},
    {**SAMPLED, "logprobs": True, "top_logprobs": 3},
    {**SAMPLED, "n": 2, "logprobs": True, "stop": ["e", "a"]},
    {**SAMPLED, "presence_penalty": 1.5, "frequency_penalty": -0.5, "logit_bias": {"40": 5, "41": -100}},
    {**SAMPLED, "top_k": 5, "top_p": 0.9, "typical_p": 0.9, "repetition_penalty": 1.2, "min_tokens": 4},
    {**SAMPLED, "model": "t5", "n": 2, "logprobs": True, "top_logprobs": 2, "min_tokens": 4},
]


def chat(parts: ServerParts, **fields: Any) -> Any:
    answer = post(parts, CHAT, {"model": "chatml", "messages": MESSAGES, **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()


def parse_completion(value: Any) -> Completion:
    """The object of OpenAI's type, which is wrong in two places: a chunk before the last one has no reason to end, and
    the first token of a prompt has no log-probability, in OpenAI's own answers as well."""
    found = copy.deepcopy(value)
    for choice in found["choices"]:
        choice["finish_reason"] = choice["finish_reason"] or "stop"
        logprobs = choice["logprobs"] or {"token_logprobs": [], "top_logprobs": None}
        numbers, top = logprobs["token_logprobs"], logprobs["top_logprobs"] or []
        assert all(number is not None for number in numbers[1:])
        logprobs["token_logprobs"] = [0.0 if number is None else number for number in numbers]
        if top:
            logprobs["top_logprobs"] = [each or {} for each in top]
    parse(Completion, found)
    return Completion.construct(**value)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_streamed_chat_says_what_a_whole_one_says(parts: ServerParts, case: dict[str, Any]) -> None:
    whole = parse(ChatCompletion, chat(parts, **case))
    usage = {"stream_options": {"include_usage": True}}
    answer = post(parts, CHAT, {"model": "chatml", "messages": MESSAGES, **case, "stream": True, **usage})
    assert answer.headers["content-type"].startswith("text/event-stream")
    chunks = [parse(ChatCompletionChunk, event) for event in events(answer.text)]
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[-1].usage == whole.usage
    assert not chunks[-1].choices
    assert all(chunk.usage is None and len(chunk.choices) == 1 for chunk in chunks[:-1])
    parts_of: dict[int, list[Any]] = {}
    for chunk in chunks[:-1]:
        parts_of.setdefault(chunk.choices[0].index, []).append(chunk.choices[0])
    assert parts_of.keys() == {choice.index for choice in whole.choices}
    for choice in whole.choices:
        pieces = parts_of[choice.index]
        assert pieces[0].delta.role == "assistant"
        assert "".join(piece.delta.content or "" for piece in pieces) == choice.message.content
        assert [piece.finish_reason for piece in pieces if piece.finish_reason] == [choice.finish_reason]
        if case.get("logprobs"):
            assert choice.logprobs is not None
            streamed = [entry for piece in pieces if piece.logprobs for entry in piece.logprobs.content]
            assert streamed == choice.logprobs.content
            text = b"".join(bytes(entry.bytes) for entry in streamed).decode(errors="replace")
            assert text.startswith(choice.message.content)
            if "stop" not in case:
                assert text == choice.message.content
            assert all(len(entry.top_logprobs) == case.get("top_logprobs", 0) for entry in streamed)


@pytest.mark.parametrize(
    "case",
    [
        {"prompt": "Old and big", "temperature": 0, "max_tokens": 5},
        {"prompt": ["Old", "and big"], "n": 2, **SAMPLED, "logprobs": 2, "stop": "e"},
        {"prompt": [40, 41, 42], "echo": True, "logprobs": 0, **SAMPLED},
        {"prompt": [[40, 41], [42, 43, 44]], "echo": True, "logprobs": 1, **SAMPLED},
        {"prompt": "Old", "echo": True, "max_tokens": 0, "logprobs": 1},
        {"model": "t5", "prompt": ["Old", "and big"], "n": 2, **SAMPLED, "logprobs": 2, "min_tokens": 4},
    ],
    ids=str,
)
def test_a_streamed_completion_says_what_a_whole_one_says(parts: ServerParts, case: dict[str, Any]) -> None:
    body = {"model": "chatml", **case}
    whole = parse_completion(post(parts, COMPLETIONS, body).json())
    streamed = post(parts, COMPLETIONS, {**body, "stream": True, "stream_options": {"include_usage": True}})
    chunks = [parse_completion(event) for event in events(streamed.text)]
    assert chunks[-1].usage == whole.usage
    for choice in whole.choices:
        pieces = [chunk.choices[0] for chunk in chunks[:-1] if chunk.choices[0].index == choice.index]
        assert "".join(piece.text for piece in pieces) == choice.text
        assert pieces[-1].finish_reason == choice.finish_reason
        if choice.logprobs is not None:
            for name in ("tokens", "token_logprobs", "text_offset", "top_logprobs"):
                joined = [each for piece in pieces for each in getattr(piece.logprobs, name) or ()]
                assert joined == (getattr(choice.logprobs, name) or []), name


@pytest.mark.parametrize("fields", [{"model": "chatml", "instructions": "Be brief."}, {"model": "t5"}], ids=str)
def test_a_streamed_response_says_what_a_whole_one_says(parts: ServerParts, fields: dict[str, str]) -> None:
    body = {"input": "Say red.", "temperature": 0, **fields}
    whole = parse(Response, post(parts, "/v1/responses", body).json())
    text = post(parts, "/v1/responses", {**body, "stream": True}).text
    lines = [line for line in text.split("\n") if line.startswith("data: ")]
    adapter: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
    found = [adapter.validate_json(line.removeprefix("data: ")) for line in lines]
    assert [event.sequence_number for event in found] == list(range(len(found)))
    assert "".join(event.delta for event in found if event.type == "response.output_text.delta") == whole.output_text
    assert found[-1].response.output_text == whole.output_text
    assert found[-1].response.usage == whole.usage
    as_list = {**body, "input": [{"role": "user", "content": [{"type": "input_text", "text": "Say red."}]}]}
    assert parse(Response, post(parts, "/v1/responses", as_list).json()).output_text == whole.output_text


def test_the_asynchronous_client_lists_models_chats_and_gets_errors_as_exceptions(parts: ServerParts) -> None:
    async def work(http: httpx.AsyncClient) -> None:
        async with openai_client(http) as client:
            listed = [model async for model in client.models.list()]
            assert [model.id for model in listed] == ["chatml", "t5"]
            assert parse(Model, (await client.models.retrieve("t5")).model_dump()).owned_by == "tunesmith"
            for name in ("chatml", "t5"):
                answer = await client.chat.completions.create(model=name, messages=MESSAGES, max_tokens=5)
                assert answer.usage is not None
                assert answer.usage.completion_tokens <= 5
            with pytest.raises(openai.NotFoundError) as missing:
                await client.chat.completions.create(model="/etc/passwd", messages=MESSAGES)
            assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
            with pytest.raises(openai.BadRequestError) as wrong:
                await client.chat.completions.create(model="chatml", messages=MESSAGES, temperature=3)
            assert (wrong.value.type, wrong.value.param) == ("invalid_request_error", "temperature")
            with pytest.raises(openai.BadRequestError) as long:
                await client.chat.completions.create(
                    model="chatml", messages=[{"role": "user", "content": "word " * 300}]
                )
            assert long.value.code == "context_length_exceeded"

    run(work, parts)


def test_the_synchronous_client_streams_from_a_running_server(parts: ServerParts) -> None:
    with running_server(parts) as address:
        client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=60)
        whole = client.chat.completions.create(model="chatml", messages=MESSAGES, temperature=0)
        with client.chat.completions.create(model="chatml", messages=MESSAGES, temperature=0, stream=True) as chunks:
            text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert text == whole.choices[0].message.content
