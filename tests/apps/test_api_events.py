"""What servers send is read the same way however it is divided, and anything else is one kind of error."""

from __future__ import annotations

import json
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.apps.api_server import delta
from tunesmith.apps import api_events
from tunesmith.apps.api_events import ModelFacts, add_state, event_data, listed_models, parts_of, read_parts
from tunesmith.apps.chat_model import ReplyPart
from tunesmith.errors import DataError

KEYS = ("choices", "index", "delta", "message", "content", "finish_reason", "error", "data", "id", "models", "name")
TEXT = st.text("ab\r\u2028é😀", max_size=4)
NEAR = st.recursive(
    st.sampled_from((None, True, 0, 1, 7, -1, 0.5, "", "x", [], {})),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=6,
)
"""Values that are nearly an answer."""


@settings(max_examples=25, deadline=None)
@given(st.lists(TEXT, max_size=4), st.lists(st.integers(0, 200)))
def test_events_are_the_same_however_the_stream_is_divided(texts: list[str], cuts: list[int]) -> None:
    stream = b": ping\r\n\r\n" + b"".join(delta(text) for text in texts) + b"data: [DONE]\n\n"
    places = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    chunks = [stream[start:end] for start, end in pairwise(places)]
    *found, done = event_data(chunks)
    assert done == "[DONE]"
    assert [json.loads(each)["choices"][0]["delta"]["content"] for each in found] == texts


@settings(max_examples=40, deadline=None)
@given(st.lists(st.binary(max_size=30) | NEAR.map(lambda value: f"data: {json.dumps(value)}\n\n".encode()), max_size=4))
def test_any_bytes_are_replies_or_a_data_error(chunks: list[bytes]) -> None:
    with suppress(DataError):
        for part in read_parts(event_data(chunks), 2):
            assert part.draft in (0, 1)
            assert isinstance(part.text, str)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), NEAR))
def test_any_object_is_an_answer_or_a_data_error(answer: dict[str, Any]) -> None:
    with suppress(DataError):
        assert all(0 <= part.draft < 2 for part in parts_of(answer, "message", 2))
    assert all(model.name for model in listed_models(answer))
    assert add_state(ModelFacts("x"), answer).name == "x"


def test_the_drafts_of_a_stream_are_kept_apart_and_what_comes_after_their_end_is_ignored() -> None:
    stream = [delta("a", index=1), delta("b"), delta("", "stop", 1), delta("late", index=1), delta("c", "stop")]
    parts = list(read_parts(event_data(stream), 2))
    assert parts == [
        ReplyPart(1, "a"),
        ReplyPart(0, "b"),
        ReplyPart(1, "", finish="stop"),
        ReplyPart(0, "c", finish="stop"),
    ]


def test_a_line_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_events, "LARGEST_LINE", 100)
    with pytest.raises(DataError, match="a line of more than 100 bytes"):
        list(event_data(b"x" * 60 for _ in range(10**6)))
