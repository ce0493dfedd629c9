"""The Python pipeline gives the same replies as the server, for the same seed."""

from __future__ import annotations

from typing import Any

import pytest

import tunesmith
from tests.serve.served import model_of, post
from tunesmith.serve.app.factory import ServerParts


@pytest.mark.parametrize("name", ["chatml", "t5"])
def test_replies_are_those_of_the_server(name: str, parts: ServerParts) -> None:
    generate = tunesmith.pipeline(str(model_of(parts.models, name).engine.model.name_or_path))
    texts = ["Say red, old and big.", "Say blue.\n\tTwice."]
    settings: dict[str, Any] = {"temperature": 0.8, "top_p": 0.95}
    found = generate(texts, num_return_sequences=3, seed=17, max_new_tokens=12, **settings)
    for text, records in zip(texts, found, strict=True):
        request = {"model": name, "messages": [{"role": "user", "content": text}], "seed": 17, "n": 3, "max_tokens": 12}
        choices = post(parts, "/v1/chat/completions", {**request, **settings}).json()["choices"]
        assert [choice["message"]["content"] for choice in choices] == [record["generated_text"] for record in records]
    assert len({record["generated_text"] for record in found[0]}) > 1
