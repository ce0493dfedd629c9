"""Parts of a row that a reader knows and could still lose: second names, second lists, masks and copies."""

from __future__ import annotations

from typing import Any

import pytest

from tests.data.outcomes import chat, read, tree_of
from tunesmith.data.readers.meanings import holds_something
from tunesmith.errors import DataError

QUESTION, ANSWER = chat("Name a lake.", "Lake Garda.")
CALL = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}}]}
OTHER_CALL = {**CALL, "tool_calls": [{"function": {"name": "f", "arguments": {"x": 2}}}]}
RESULT = {"role": "tool", "content": "3"}
SHARED = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
OTHER = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Go away"}]
OUTER = {"function": {"name": "f"}, "arguments": {"x": 1}}

LOST: dict[str, tuple[str, dict[str, Any], str]] = {
    "the passage of a prompt": (
        "prompts",
        {"instruction": "Translate", "input": "Bonjour"},
        "'input' holds a passage",
    ),
    "the passage of a completion": (
        "prompt-completion",
        {"prompt": "Translate", "completion": "Hello", "input": "Bonjour"},
        "'input' holds a passage",
    ),
    "the system message next to a prompt": (
        "prompts",
        {"prompt": "Name a lake.", "messages": [{"role": "system", "content": "Be brief."}, QUESTION, ANSWER]},
        "field 'messages' has messages that the prompt in 'prompt' does not have",
    ),
    "arguments outside of the function": (
        "messages",
        {"messages": [QUESTION, {**CALL, "tool_calls": [OUTER]}, RESULT, ANSWER]},
        "has 'arguments' outside of its function",
    ),
    "a second list of turns": (
        "sharegpt",
        {"conversations": SHARED, "items": OTHER},
        "both 'conversations' and 'items'",
    ),
    "two texts of a turn": (
        "sharegpt",
        {"conversations": [SHARED[0], {**SHARED[1], "content": "Go away"}]},
        "value and content differ",
    ),
    "a mask in a history that is context": (
        "prompt-completion",
        {"prompt": "a", "completion": "b", "history": [QUESTION, {**ANSWER, "train": True}]},
        "that is to be trained on by its mask",
    ),
    "tool calls of the sides": (
        "preference",
        {
            "prompt": [QUESTION, CALL, RESULT],
            "chosen": [QUESTION, OTHER_CALL, RESULT, ANSWER],
            "rejected": [QUESTION, OTHER_CALL, RESULT, {**ANSWER, "content": "The Po."}],
        },
        "begins with another prompt",
    ),
    "a name in camel case": (
        "messages",
        {"messages": [QUESTION, ANSWER], "toolSchemas": [{}, {"a": 1}]},
        "'toolSchemas'",
    ),
    "a mask under another name": (
        "messages",
        {"messages": [QUESTION, {**ANSWER, "train_on_turn": False}]},
        "train_on_turn",
    ),
}


@pytest.mark.parametrize(("reader", "row", "message"), LOST.values(), ids=LOST)
def test_what_would_be_lost_is_refused(reader: str, row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(reader, row)


def test_null_keys_of_a_table_do_not_hide_others() -> None:
    turns = [{"from": None, "value": None, **turn} for turn in (QUESTION, ANSWER)]
    tree = tree_of(read("sharegpt", {"conversations": turns}))
    assert [message.text for message in tree.messages] == ["Name a lake.", "Lake Garda."]


@pytest.mark.parametrize("value", [{"bytes": None, "path": None}, [None], [{"a": []}], {"a": {"b": " "}}])
def test_a_value_of_nothing_but_nulls_holds_nothing(value: Any) -> None:
    assert not holds_something(value)
    assert holds_something([value, 0])


def test_a_tool_result_before_the_first_question_is_cut_with_its_call() -> None:
    turns = [
        {"from": "function_call", "value": '{"name": "f", "arguments": {}}'},
        {"from": "observation", "value": "3"},
        *SHARED,
    ]
    tree = tree_of(read("sharegpt", {"conversations": turns}, leading="cut"))
    assert [message.role for message in tree.messages] == ["user", "assistant"]
