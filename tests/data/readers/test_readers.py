"""Readers: a row becomes the expected tree, or an error that names the field."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.data.outcomes import whole_tree_of
from tunesmith.data.readers.reader import Filtered
from tunesmith.data.readers.registry import open_reader
from tunesmith.errors import DataError, RecipeError
from tunesmith.text.tree import Message, Tree

DOLLY = {"instruction": " Name it.\n", "context": "A passage.", "response": "The Douro. ", "category": "open_qa"}
ALPACA = {"instruction": "Sum up.", "input": "A passage.", "output": "As an AI, no."}
CHAT = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello."},
    ]
}


def read(reader: str, row: dict[str, Any], fields: dict[str, str] | None = None, **options: Any) -> Any:
    """The tree of a row of which nothing was dropped, or why the row is filtered."""
    result = open_reader(reader, fields or {}, options)(row)
    return result if isinstance(result, Filtered) else whole_tree_of(result)


def test_dolly_keeps_every_text_as_it_is() -> None:
    expected = Tree.path((Message("user", " Name it.\n", context="A passage."), Message("assistant", "The Douro. ")))
    assert read("dolly", DOLLY) == expected


@pytest.mark.parametrize("context", [None, "", "missing", "  \n"])
def test_a_context_that_is_missing_null_or_empty_is_none(context: str | None) -> None:
    row = {**DOLLY, "context": context}
    if context == "missing":
        del row["context"]
    assert read("dolly", row).messages[0].context == ("  \n" if context == "  \n" else "")


@pytest.mark.parametrize(
    ("row", "tree"),
    [
        (
            {**ALPACA},
            Tree.path((Message("user", "Sum up.", context="A passage."), Message("assistant", "As an AI, no."))),
        ),
        ({**ALPACA, "input": ""}, Tree.path((Message("user", "Sum up."), Message("assistant", "As an AI, no.")))),
    ],
)
def test_alpaca_gives_its_input_as_context(row: dict[str, Any], tree: Tree) -> None:
    assert read("alpaca", row) == tree


def test_alpaca_can_join_instruction_and_input() -> None:
    assert read("alpaca", ALPACA, join=True).messages[0] == Message("user", "Sum up.\nA passage.")
    assert read("alpaca", {**ALPACA, "input": ""}, join=True).messages[0] == Message("user", "Sum up.")


def test_alpaca_can_turn_phrases_away_in_any_case() -> None:
    assert read("alpaca", ALPACA, drop_phrases=("nothing", "AS AN ai")) == Filtered("phrase in the row")
    assert isinstance(read("alpaca", ALPACA, drop_phrases=("nothing",)), Tree)


def test_messages_become_a_path() -> None:
    expected = (Message("system", "Be brief."), Message("user", "Hi"), Message("assistant", "Hello."))
    assert read("messages", CHAT) == Tree.path(expected)


def test_fields_and_roles_can_have_other_names() -> None:
    row = {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}]}
    fields = {"messages": "conversations", "role": "from", "content": "value"}
    tree = read("messages", row, fields, user="human", assistant="gpt")
    assert tree == Tree.path((Message("user", "Hi"), Message("assistant", "Hello.")))
    assert read("dolly", {"q": "a", "a": "b"}, {"instruction": "q", "response": "a"}).messages[1].text == "b"


@pytest.mark.parametrize(("weight", "trained"), [(0, False), (1, True), (None, None)])
def test_a_weight_says_what_is_trained(weight: int | None, trained: bool | None) -> None:
    turns = [{"role": "user", "content": "a", "weight": 0}, {"role": "assistant", "content": "b", "weight": weight}]
    assert [message.trained for message in read("messages", {"messages": turns}).messages] == [None, trained]


@pytest.mark.parametrize("empty", [None, [], {}, ""])
def test_empty_marks_of_tool_calls_are_passed_over(empty: Any) -> None:
    turns = [
        {"role": "user", "content": "a", "name": empty},
        {"role": "assistant", "content": "b", "tool_calls": empty},
    ]
    assert len(read("messages", {"messages": turns, "tools": empty}).messages) == 2


WRONG_TEXTS = {
    "a number": 12,
    "true or false": True,
    "a list": ["a"],
    "an object": {"text": "a"},
    "nan": float("nan"),
    "bytes": b"a",
}


@pytest.mark.parametrize("value", WRONG_TEXTS.values(), ids=WRONG_TEXTS)
@pytest.mark.parametrize(
    ("reader", "row", "field"),
    [("dolly", DOLLY, name) for name in ("instruction", "context", "response")]
    + [("alpaca", ALPACA, name) for name in ("instruction", "input", "output")],
)
def test_nothing_but_text_is_taken_for_text(reader: str, row: dict[str, Any], field: str, value: Any) -> None:
    with pytest.raises(DataError) as caught:
        read(reader, {**row, field: value})
    kind = next(name for name, wrong in WRONG_TEXTS.items() if wrong is value)
    assert caught.value.what == f"field {field!r} is {kind}, not text"
    assert caught.value.where is None  # the caller knows the place


@pytest.mark.parametrize(
    ("reader", "row", "field"),
    [("dolly", DOLLY, "instruction"), ("dolly", DOLLY, "response"), ("alpaca", ALPACA, "output")],
)
def test_a_field_that_must_be_there_is_neither_missing_nor_null_nor_blank(
    reader: str, row: dict[str, Any], field: str
) -> None:
    with pytest.raises(DataError, match=f"field '{field}' is missing; the columns are"):
        read(reader, {key: value for key, value in row.items() if key != field})
    with pytest.raises(DataError, match=f"field '{field}' is null, not text"):
        read(reader, {**row, field: None})
    for blank in ("", " ", "\n\t\u3000\u00a0"):
        with pytest.raises(DataError, match=f"field '{field}' is empty"):
            read(reader, {**row, field: blank})
        assert read(reader, {**row, field: blank}, empty="drop") == Filtered(f"empty {field}")


def chat(*turns: Any) -> dict[str, Any]:
    return {"messages": list(turns)}


USER, ANSWER = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
BAD_CHATS: dict[str, tuple[dict[str, Any], str]] = {
    "no field": ({"conversation": []}, "field 'messages' is missing; the columns are conversation"),
    "null": ({"messages": None}, "field 'messages' is null, not a list"),
    "a text": ({"messages": "hi"}, "field 'messages' is text, not a list"),
    "empty": (chat(), "field 'messages' is empty"),
    "a text as message": (chat("hi", ANSWER), r"messages\[0\] is text, not an object"),
    "no role": (chat(USER, {"content": "b"}), r"messages\[1\]: role null is unknown"),
    "a number as role": (chat({"role": 1, "content": "b"}), r"messages\[0\]: role a number is unknown"),
    "unknown role": (chat(USER, {"role": "robot", "content": "b"}), r"messages\[1\]: role 'robot' is unknown"),
    "role in capitals": (
        chat({"role": "User", "content": "b"}),
        "role 'User' is unknown; known are system, user, assistant, tool",
    ),
    "a tool call": (
        chat(USER, {"role": "assistant", "content": None, "tool_calls": [{}]}),
        r"messages\[1\].tool_calls\[0\].name is null, not the name of a tool",
    ),
    "tools beside the messages": ({**chat(USER, ANSWER), "tools": [{}]}, r"tools\[0\] is empty, not the definition"),
    "functions beside the messages": ({**chat(USER, ANSWER), "functions": [{}]}, "field 'functions' is not supported"),
    "a name": (chat({**USER, "name": "Bob"}, ANSWER), r"messages\[0\] has 'name', which is not supported"),
    "no content": (chat({"role": "user"}, ANSWER), r"messages\[0\].content is null, not text"),
    "content in parts": (
        chat({"role": "user", "content": [{"type": "text"}]}),
        r"messages\[0\].content\[0\] is a part of type 'text', which is not supported",
    ),
    "empty content": (chat(USER, {"role": "assistant", "content": " \n"}), r"messages\[1\] \(assistant\) is empty"),
    "empty system": (chat({"role": "system", "content": ""}, USER, ANSWER), r"messages\[0\] \(system\) is empty"),
    "no answer": (chat(USER), "field 'messages' has no assistant message"),
    "a weight between": (chat(USER, {**ANSWER, "weight": 0.5}), r"messages\[1\]: weight 0.5 is neither 0 nor 1"),
    "a weight in words": (chat(USER, {**ANSWER, "weight": "1"}), r"weight '1' is neither"),
    "a weight of a half": (chat(USER, {**ANSWER, "weight": 0.5}), r"weight 0\.5 is neither"),
    "2,001 messages": (chat(*[USER, ANSWER] * 1000, USER), "has 2,001 messages"),
}


@pytest.mark.parametrize(("row", "says"), BAD_CHATS.values(), ids=BAD_CHATS)
def test_a_bad_conversation_is_refused(row: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        read("messages", row)


@pytest.mark.parametrize(
    ("reader", "fields", "options", "says"),
    [
        ("dollly", {}, {}, "there is no reader 'dollly'; known are dolly, alpaca, prompt-completion, text, messages"),
        ("dolly", {"prompt": "a"}, {}, "reader dolly has no fields.prompt; it has instruction, context, response"),
        ("dolly", {}, {"lang": "en"}, "reader dolly has no options.lang"),
        ("dolly", {}, {"empty": "keep"}, "options.empty of reader dolly is 'keep'; it must be error or drop"),
        ("oasst", {}, {"lang": "en"}, "options.lang of reader oasst is 'en'; it must be a list of texts, or null"),
        ("oasst", {}, {"top_k": 0}, "options.top_k"),
        ("oasst", {}, {"top_k": True}, "options.top_k"),
        ("oasst", {}, {"synthetic": "yes"}, "options.synthetic"),
        ("messages", {}, {"user": 1}, "options.user"),
    ],
)
def test_wrong_settings_are_faults_of_the_recipe(
    reader: str, fields: dict[str, str], options: dict[str, Any], says: str
) -> None:
    with pytest.raises(RecipeError, match=says) as caught:
        open_reader(reader, fields, options, where="data source x")
    assert caught.value.where == "data source x"


def test_alpaca_with_join_and_phrases_is_as_in_the_original(golden: Callable[[str], dict[str, Any]]) -> None:
    cases = [case for case in golden("extras")["cases"] if case["kind"] == "alpaca"]
    assert cases
    for case in cases:
        expected = sorted(json.dumps(pair) for side in ("train", "val") for pair in case["expected"][side])
        gone = ("as an ai language model", "openai", "knowledge cutoff", "i'm sorry, i cannot")
        found = []
        for row in case["input"]["rows"]:
            outcome = read("alpaca", row, None, join=True, empty="keep", drop_phrases=gone)
            if isinstance(outcome, Tree):
                found.append(json.dumps([message.text for message in outcome.messages]))
        assert sorted(found) == expected
