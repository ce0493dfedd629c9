"""Columns that a recognised reader would leave out: those that may be part of the conversation are named."""

from __future__ import annotations

from typing import Any

import pytest

from tests.data.outcomes import chat, read
from tests.data.readers.test_recognition import found, messages_of, refused
from tunesmith.data.readers.reader import ReadTree
from tunesmith.data.readers.recognition import NotRecognised, Recognised, recognise
from tunesmith.data.readers.registry import open_reader
from tunesmith.errors import DataError
from tunesmith.text.tree import Message

ALPACA = {"instruction": "Name a lake.", "output": "Lake Garda."}


def texts(*names: str) -> dict[str, Any]:
    return {name: f"The text of {name}." for name in names}


@pytest.mark.parametrize("names", [("instruction", "response"), ("instruction", "output"), ("prompt", "completion")])
@pytest.mark.parametrize("passage", ["passage", "document", "background"])
def test_a_passage_is_read_next_to_the_names_of_any_reader(names: tuple[str, str], passage: str) -> None:
    row = texts(*names, passage)
    assert messages_of(found(row), row)[0] == Message("user", row[names[0]], context=row[passage])


PASSAGE_LATER = [
    ("dolly", ("instruction", "response")),
    ("prompt-completion", ("prompt", "completion")),
    ("text", ("text",)),
]


@pytest.mark.parametrize("passage", ["passage", "document", "background"])
@pytest.mark.parametrize(("reader", "names"), PASSAGE_LATER)
def test_a_passage_after_the_rows_that_were_looked_at_is_refused(
    reader: str, names: tuple[str, ...], passage: str
) -> None:
    assert found({**texts(*names), passage: ""}).reader == reader
    with pytest.raises(DataError, match=rf"'{passage}' holds a passage .* ignore: \[{passage}\]"):
        read(reader, texts(*names, passage))


LEFT_OUT: dict[str, tuple[dict[str, Any], str, str]] = {
    "a question of alpaca": (
        texts("instruction", "question", "output"),
        "alpaca (instruction, output) would leave out 'question'",
        "--reader alpaca --ignore question or --reader alpaca --field instruction=question --ignore instruction"
        " or --reader alpaca --field input=question",
    ),
    "a question of a completion": (
        texts("prompt", "completion", "question"),
        "prompt-completion (prompt, completion) would leave out 'question'",
        "--reader prompt-completion --ignore question or --reader alpaca --field instruction=question"
        " --field output=completion --ignore prompt or --reader alpaca --field instruction=prompt"
        " --field input=question --field output=completion",
    ),
    "a text next to the name of its author": (
        {"user": "jane0", "text": "What is 0?", "reply": "A number."},
        "alpaca (user, reply) would leave out 'text'",
        "--reader alpaca --field instruction=user --field output=reply --ignore text or --reader alpaca"
        " --field instruction=text --field output=reply --ignore user or --reader alpaca --field instruction=user"
        " --field input=text --field output=reply",
    ),
    "an answer next to a pair": (
        texts("question", "answer", "positive", "negative"),
        "preference-text (question, positive, negative) would leave out 'answer'",
        "--reader preference-text --field prompt=question --field chosen=positive --field rejected=negative"
        " --ignore answer",
    ),
    "a response of a completion": (
        texts("prompt", "completion", "response"),
        "prompt-completion (prompt, completion) would leave out 'response'",
        "--reader prompt-completion --ignore response or --reader alpaca --field instruction=prompt"
        " --field output=response --ignore completion",
    ),
    "a response of alpaca": (
        texts("instruction", "input", "output", "response"),
        "alpaca (instruction, output, input) would leave out 'response'",
        "--reader alpaca --ignore response or --reader alpaca --field output=response --ignore output",
    ),
    "an output of dolly": (
        texts("instruction", "context", "response", "output"),
        "dolly (instruction, response, context) would leave out 'output'",
        "--reader dolly --ignore output or --reader alpaca --field input=context --ignore response",
    ),
    "a label of a document": (
        texts("text", "label"),
        "text (text) would leave out 'label'",
        "--reader text --ignore label or --reader alpaca --field instruction=text --field output=label",
    ),
    "a class of a document": (
        {"text": "A good film.", "label": 1},
        "text (text) would leave out 'label'",
        "--reader text --ignore label",
    ),
    "the code of a document": (
        texts("text", "code"),
        "text (text) would leave out 'code'",
        "--reader text --ignore code or --reader alpaca --field instruction=text --field output=code",
    ),
    "the highlights of an article": (
        texts("article", "highlights"),
        "text (article) would leave out 'highlights'",
        "--reader text --field text=article --ignore highlights or --reader alpaca --field instruction=article"
        " --field output=highlights",
    ),
}


OTHER_LOSSES: dict[str, list[dict[str, Any]]] = {
    "replies in a list": [{**texts("question", "reply"), "answers": ["An answer.", "Another."]}],
    "a row without what is read": [ALPACA, ALPACA, {"question": "Who won?"}],
    "a text that begins one that is read": [{**ALPACA, "answer": "Lake"}],
    "a text that contains a document": [{"text": "A cat", "summary": "A cat sat on the mat."}],
}


@pytest.mark.parametrize("rows", OTHER_LOSSES.values(), ids=OTHER_LOSSES)
def test_any_text_that_is_not_read_is_a_loss(rows: list[dict[str, Any]]) -> None:
    assert f"would leave out {[*rows[-1]][-1]!r}" in refused(*rows).what


@pytest.mark.parametrize(("row", "what", "words"), LEFT_OUT.values(), ids=LEFT_OUT)
def test_a_part_of_the_conversation_is_not_left_out_in_silence(row: dict[str, Any], what: str, words: str) -> None:
    result = refused(row)
    assert result.what == f"the reader {what}"
    assert result.advice("--") == f"append {words}"
    for reading in result.nearest:
        read_it = open_reader(reading.reader, reading.fields, reading.options, ignore=reading.ignore)
        assert isinstance(read_it(row), ReadTree)


def test_a_column_that_says_which_reply_is_the_winner_is_no_reply() -> None:
    result = refused({**texts("prompt", "response_a"), "winner": "model_a", "loser": "model_b"})
    assert "would leave out 'response_a', and the texts of a pair have to be in the columns chosen" in result.what
    assert result.nearest == ()


def test_what_is_left_out_on_purpose_stays_so_in_the_words_to_append() -> None:
    row = texts("instruction", "question", "output", "query")
    result = recognise([row], ignore=["query"])
    assert isinstance(result, NotRecognised)
    assert result.nearest[0].words("data.sources.0").endswith("'data.sources.0.ignore=[query, question]'")
    assert isinstance(recognise([row], ignore=["query", "question"]), Recognised)


SAID_TWICE: dict[str, dict[str, Any]] = {
    "the whole text of alpaca": {**ALPACA, "text": f"### {ALPACA['instruction']}\n### {ALPACA['output']}"},
    "the prompt of messages": {"prompt": "Hi", "messages": chat("Hi", "Hello.")},
    "the messages of an exchange": {**ALPACA, "conversation": chat(*ALPACA.values())},
}


@pytest.mark.parametrize("row", SAID_TWICE.values(), ids=SAID_TWICE)
def test_a_column_that_repeats_what_is_read_is_no_loss_until_it_says_something_else(row: dict[str, Any]) -> None:
    reading = found(row)
    (repeated,) = {*row} - {column.partition("[")[0] for column in reading.columns}
    assert f"would leave out {repeated!r}" in refused(row, {**row, repeated: "Something else."}).what


def test_a_list_of_turns_is_part_of_the_conversation_under_any_name() -> None:
    assert "would leave out 'gespraech'" in refused({**ALPACA, "gespraech": chat("Who left?", "One.")}).what


def test_what_is_said_about_a_document_is_no_loss() -> None:
    row = {**texts("text", "id", "url", "timestamp", "file_path", "title"), "meta": {"set": "a"}, "score": 0.5}
    assert found(row).reader == "text"
