"""Answers have the form of OpenAI's specification. `make serve` compares thousands with it; these were once wrong."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import pytest

from tests.serve.served import post
from tests.serve.specifications import official_schema
from tunesmith.serve.app.factory import ServerParts

COMPLETIONS, RESPONSES = "/v1/completions", "/v1/responses"


def find_errors(name: str, value: Any) -> list[str]:
    """Where a value differs from a schema of the specification."""
    schema = {**official_schema("chatml"), "$ref": f"#/components/schemas/{name}"}
    return [f"{error.instance_path}: {error.message}" for error in jsonschema_rs.iter_errors(schema, value)]


@pytest.mark.parametrize("logprobs", [None, 0, 2])
def test_a_completion_repeats_its_prompt_with_log_probabilities(logprobs: int | None, parts: ServerParts) -> None:
    body = {"model": "chatml", "prompt": "Old", "echo": True, "logprobs": logprobs, "max_tokens": 2}
    answer = post(parts, COMPLETIONS, body).json()
    assert find_errors("CreateCompletionResponse", answer) == []


@pytest.mark.parametrize("user", [{}, {"user": None}, {"user": "me"}], ids=str)
def test_a_response_names_its_user_if_it_has_one(user: dict[str, str | None], parts: ServerParts) -> None:
    body = {"model": "chatml", "input": "Say red.", "max_output_tokens": 16, **user}
    answer = post(parts, RESPONSES, body).json()
    assert find_errors("Response", answer) == []
    assert answer.get("user") == user.get("user")
    stream = post(parts, RESPONSES, {**body, "stream": True}).text
    events = [json.loads(line.removeprefix("data: ")) for line in stream.splitlines() if line.startswith("data: ")]
    assert events[0]["type"] == "response.created"
    for event in events:
        assert find_errors("ResponseStreamEvent", event) == []
