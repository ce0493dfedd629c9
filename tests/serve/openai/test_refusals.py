"""What is refused, and that the answer names the field: before anything is computed."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.serve.served import MESSAGES, post
from tunesmith.serve.app.factory import ServerParts
from tunesmith.serve.openai.fields import MESSAGES as MOST_MESSAGES
from tunesmith.serve.openai.fields import PROMPTS
from tunesmith.serve.openai.json_body import parse_json, read_body
from tunesmith.serve.openai.request_schemas import ChatRequestSchema, CompletionRequestSchema, ResponseRequestSchema
from tunesmith.serve.refusals import RefusedRequest

CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
REQUIRED = {CHAT: {"messages": MESSAGES}, COMPLETIONS: {"prompt": "Old"}, RESPONSES: {"input": "Old"}}
SCHEMAS = {CHAT: ChatRequestSchema, COMPLETIONS: CompletionRequestSchema, RESPONSES: ResponseRequestSchema}
NOT_NUMBERS = ("1", True, [], {}, [1])
INTEGERS = {
    CHAT: {"n": (1, 8), "max_tokens": (1, 128), "max_completion_tokens": (1, 128), "top_logprobs": (0, 20)},
    COMPLETIONS: {"n": (1, 8), "max_tokens": (0, 128), "logprobs": (0, 20)},
    RESPONSES: {"max_output_tokens": (1, 128)},
}
SAMPLING = {"temperature": (0, 2), "top_p": (0, 1)}
NUMBERS = {
    CHAT: {**SAMPLING, "presence_penalty": (-2, 2), "frequency_penalty": (-2, 2), "repetition_penalty": (0.01, 100)},
    COMPLETIONS: {**SAMPLING, "presence_penalty": (-2, 2), "typical_p": (1e-9, 1)},
    RESPONSES: SAMPLING,
}


def refusal(parts: ServerParts, path: str, status: int = 400, **fields: Any) -> Any:
    answer = post(parts, path, {"model": "chatml", **REQUIRED[path], **fields})
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return error


@pytest.mark.parametrize("path", REQUIRED)
def test_numbers_outside_of_their_range_and_other_types_are_refused_by_name(parts: ServerParts, path: str) -> None:
    before = [model.thread.load.generated for model in parts.models]
    for name, (low, high) in (INTEGERS[path] | NUMBERS[path]).items():
        is_integer = name in INTEGERS[path]
        step = 1 if is_integer else 0.001
        outside = [low - step, high + step, *((low + 0.5, 1e308) if is_integer else (1e308,)), -1e308, 2**70]
        for value in (*outside, *NOT_NUMBERS):
            assert refusal(parts, path, **{name: value})["param"] == name, (name, value)
        for text in ("NaN", "Infinity", "-Infinity", "1e999"):
            fields = json.dumps({"model": "chatml", **REQUIRED[path]})
            answer = post(parts, path, f'{fields[:-1]}, "{name}": {text}}}'.encode())
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json")
    assert [model.thread.load.generated for model in parts.models] == before


@pytest.mark.parametrize("path", REQUIRED)
def test_the_ends_of_ranges_are_accepted(path: str) -> None:
    for name, (low, high) in (INTEGERS[path] | NUMBERS[path]).items():
        for value in (low, high, None):
            found = read_body(json.dumps({"model": "m", **REQUIRED[path], name: value}).encode(), SCHEMAS[path])
            assert getattr(found, name) == value


LARGEST = [
    (CHAT, "stop", ["a" * 64, "b", "c", "d"]),
    (CHAT, "logit_bias", {str(number): 100 for number in range(300)}),
    (CHAT, "messages", [{"role": "user", "content": "x"}] * MOST_MESSAGES),
    (CHAT, "metadata", {f"name {number}": "x" * 512 for number in range(16)}),
    (CHAT, "user", "x" * 512),
    (COMPLETIONS, "prompt", ["x"] * PROMPTS),
    (COMPLETIONS, "prompt", [[1]] * PROMPTS),
    (RESPONSES, "input", [{"role": "user", "content": "x"}] * MOST_MESSAGES),
]


@pytest.mark.parametrize(("path", "name", "value"), LARGEST, ids=lambda value: str(value)[:40])
def test_the_largest_value_of_a_field_is_accepted_and_a_larger_one_is_not(path: str, name: str, value: Any) -> None:
    def read(value: Any) -> Any:
        return getattr(
            read_body(json.dumps({"model": "m", **REQUIRED[path], name: value}).encode(), SCHEMAS[path]), name
        )

    assert len(read(value)) == len(value)
    larger = {**value, "1000": next(iter(value.values()))} if isinstance(value, dict) else value + value[:1]
    with pytest.raises(RefusedRequest) as refused:
        read(larger)
    assert refused.value.param == name


UNSUPPORTED = [
    (CHAT, "tools", [{"type": "function"}]),
    (CHAT, "tool_choice", "required"),
    (CHAT, "response_format.type", {"response_format": {"type": "json_schema"}}),
    (CHAT, "audio", {}),
    (CHAT, "store", True),
    (CHAT, "min_p", 0.1),
    (CHAT, "reasoning_effort", "high"),
    (CHAT, "generation_config", "{}"),
    (CHAT, "nonsense", 1),
    (CHAT, "stream_options.include_obfuscation", {"stream": True, "stream_options": {"include_obfuscation": True}}),
    (CHAT, "stream_options", {"stream_options": {"include_usage": True}}),
    (CHAT, "top_logprobs", 2),
    (CHAT, "stop", ["a", "b", "c", "d", "e"]),
    (CHAT, "stop", ""),
    (CHAT, "stop", "x" * 65),
    (CHAT, "stop", 5),
    (CHAT, "logit_bias", {"5": 101}),
    (CHAT, "logit_bias", {"five": 1}),
    (CHAT, "logit_bias", {"99999": 1}),
    (CHAT, "logit_bias", {str(number): 1 for number in range(301)}),
    (CHAT, "messages", []),
    (CHAT, "messages", MESSAGES * 257),
    (CHAT, "messages", [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]),
    (CHAT, "messages", [*MESSAGES, {"role": "assistant", "content": "c"}, {"role": "system", "content": "d"}]),
    (CHAT, "messages[0].role", {"messages": [{"role": "tool", "content": "x", "tool_call_id": None}]}),
    (CHAT, "messages[0].name", {"messages": [{"role": "user", "content": "x", "name": "Ann"}]}),
    (CHAT, "messages[0].content", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
    (CHAT, "messages[0].content", {"messages": [{"role": "user", "content": None}]}),
    (CHAT, "continue_final_message", True),
    (CHAT, "max_tokens", {"max_tokens": 3, "max_completion_tokens": 4}),
    (CHAT, "min_tokens", {"min_tokens": 4, "max_tokens": 3}),
    (COMPLETIONS, "prompt", []),
    (COMPLETIONS, "prompt", [-1]),
    (COMPLETIONS, "prompt", [10**6]),
    (COMPLETIONS, "prompt", [[1], []]),
    (COMPLETIONS, "prompt", ["a", 1]),
    (COMPLETIONS, "prompt", {"a": 1}),
    (COMPLETIONS, "prompt", "word " * 200),
    (COMPLETIONS, "best_of", 3),
    (COMPLETIONS, "suffix", "end"),
    (COMPLETIONS, "max_tokens", 0),
    (RESPONSES, "tools", [{}]),
    (RESPONSES, "previous_response_id", "resp_1"),
    (RESPONSES, "background", True),
    (RESPONSES, "text.format.type", {"text": {"format": {"type": "json_object"}}}),
    (RESPONSES, "input", []),
    (RESPONSES, "input", 5),
    (RESPONSES, "input[0].content", {"input": [{"role": "user", "content": [{"type": "input_image"}]}]}),
]


@pytest.mark.parametrize(("path", "param", "value"), UNSUPPORTED, ids=lambda value: str(value)[:40])
def test_what_is_not_supported_or_not_valid_is_refused_by_name(
    parts: ServerParts, path: str, param: str, value: Any
) -> None:
    fields = value if isinstance(value, dict) and param.split(".")[0].split("[")[0] in value else {param: value}
    assert refusal(parts, path, **fields)["param"] == param


def test_an_encoder_decoder_refuses_what_it_cannot_do(parts: ServerParts) -> None:
    assert refusal(parts, COMPLETIONS, model="t5", echo=True)["param"] == "echo"
    begun = [*MESSAGES, {"role": "assistant", "content": "r"}]
    assert refusal(parts, CHAT, model="t5", messages=begun)["param"] == "continue_final_message"
    two = [*MESSAGES, {"role": "assistant", "content": "r"}, {"role": "user", "content": "s"}]
    assert "t5-dolly" in refusal(parts, CHAT, model="t5", messages=two)["message"]


TRAVERSALS = ["../chatml", "/etc/passwd", "chatml/../t5", "http://127.0.0.1/x", "chatml\0", "", "CHATML", "x" * 5000]


@pytest.mark.parametrize("name", TRAVERSALS, ids=lambda name: name[:20])
def test_a_model_is_served_under_its_name_only(parts: ServerParts, name: str) -> None:
    error = refusal(parts, CHAT, 404, model=name)
    assert error["param"] == "model"
    assert len(error["message"]) < 300


BROKEN = [
    b"", b"{", b"[]", b"null", b'"x"', b"{}", b'{"model": "chatml"', b'{"model": "chatml"} x', b"\xff\xfe", b"\x00",
    b'{"a": 1, "a": 2}', b"[" * 10_000, b'{"a":' * 33 + b"1" + b"}" * 33, b'{"model": "\\ud800"}', b'"' + b'\\"' * 9999,
    b'{"n": ' + b"9" * 5000 + b"}", b"{" + b",".join(b'"k%d": 1' % number for number in range(50_000)) + b"}",
]  # fmt: skip


@pytest.mark.parametrize("body", BROKEN, ids=lambda body: repr(body[:12]))
def test_bodies_that_are_not_such_objects_are_refused(parts: ServerParts, body: bytes) -> None:
    for path in REQUIRED:
        answer = post(parts, path, body)
        assert answer.status_code == 400
        assert answer.json()["error"]["type"] == "invalid_request_error"


JSON_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(path=st.sampled_from(sorted(SCHEMAS)), data=st.data())
def test_any_values_of_the_fields_are_a_request_or_a_refusal(path: str, data: st.DataObject) -> None:
    schema = SCHEMAS[path]
    names = sorted({*schema.model_fields, *schema.NEUTRAL, "other"})
    body = data.draw(st.dictionaries(st.sampled_from(names), JSON_VALUE, max_size=5))
    try:
        read_body(json.dumps({"model": "m", **REQUIRED[path], **body}).encode(), schema)
    except RefusedRequest as error:
        refused = error
    else:
        return
    assert refused.status == 400
    assert refused.param is None or refused.param.split(".")[0].split("[")[0] in {*names, "other"}


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=40) | st.text(st.sampled_from('[]{}",:\\u0d8 1e9-tnN'), max_size=40).map(str.encode))
def test_any_bytes_are_a_value_or_a_refusal(body: bytes) -> None:
    with suppress(RefusedRequest):
        value = parse_json(body)
        assert json.loads(body) == value
