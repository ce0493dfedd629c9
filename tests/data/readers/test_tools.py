"""Readers of conversations with tools, reasoning and contents in parts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.data.dataset.split import content_key
from tunesmith.data.readers.reader import ReadTree
from tunesmith.data.readers.registry import open_reader
from tunesmith.errors import DataError
from tunesmith.text.tree import Message, ToolCall, Tree

DEFINITION = {"type": "function", "function": {"name": "rain", "parameters": {"type": "object", "properties": {}}}}
ASK = {"role": "user", "content": "Does it rain in Bergen?"}
CALL = {"id": "c1", "type": "function", "function": {"name": "rain", "arguments": {"city": "Bergen", "days": 2}}}
RESULT = {"role": "tool", "tool_call_id": "c1", "name": "rain", "content": "[1, 0]"}
ANSWER = {"role": "assistant", "content": "Today it does."}


def read(reader: str, row: Mapping[str, Any], **options: Any) -> Tree:
    result = open_reader(reader, {}, options)(row)
    assert isinstance(result, ReadTree)
    return result.tree


def calling(**keys: Any) -> list[dict[str, Any]]:
    return [ASK, {"role": "assistant", "content": None, "tool_calls": [CALL], **keys}, RESULT, ANSWER]


def test_a_conversation_with_tools_is_read() -> None:
    tree = read("messages", {"messages": calling(), "tools": [DEFINITION]})
    assert [message.role for message in tree.messages] == ["user", "assistant", "tool", "assistant"]
    assert json.loads(tree.messages[0].tools) == [DEFINITION]
    assert tree.messages[1].tool_calls == (ToolCall("rain", '{"city": "Bergen", "days": 2}', "c1"),)
    assert (tree.messages[2].name, tree.messages[2].tool_call_id) == ("rain", "c1")


@pytest.mark.parametrize("tools", [[DEFINITION], json.dumps([DEFINITION]), [json.dumps(DEFINITION)]])
def test_definitions_may_be_objects_or_json(tools: Any) -> None:
    assert json.loads(read("messages", {"messages": calling(), "tools": tools}).messages[0].tools) == [DEFINITION]


@pytest.mark.parametrize("tools", [None, [], {}, "", " ", "[]", "null"])
def test_no_definitions_are_nothing(tools: Any) -> None:
    assert read("messages", {"messages": calling(), "tools": tools}).messages[0].tools == ""


@pytest.mark.parametrize(
    ("written", "arguments"),
    [
        ({"function": {"name": "rain", "arguments": '{"a":1}'}}, '{"a":1}'),
        ({"name": "rain", "arguments": {"a": "ä"}}, '{"a": "ä"}'),
        ({"function": {"name": "rain", "arguments": "Bergen"}}, "Bergen"),
        ({"function": {"name": "rain"}}, "{}"),
        ({"function": {"name": "rain", "arguments": None}, "index": 0}, "{}"),
    ],
)
def test_forms_of_arguments(written: dict[str, Any], arguments: str) -> None:
    (call,) = read("messages", {"messages": calling(tool_calls=[written])}).messages[1].tool_calls
    assert (call.name, call.arguments) == ("rain", arguments)


@pytest.mark.parametrize("key", ["reasoning_content", "thinking", "reasoning"])
def test_reasoning_has_several_names(key: str) -> None:
    turns = [ASK, {**ANSWER, key: "It is October."}]
    assert read("messages", {"messages": turns}).messages[1].reasoning == "It is October."


def test_equal_reasoning_under_two_names_is_one_and_empty_is_none() -> None:
    turns = [ASK, {**ANSWER, "reasoning": "a", "thinking": "a", "reasoning_content": ""}]
    assert read("messages", {"messages": turns}).messages[1].reasoning == "a"
    assert read("messages", {"messages": [ASK, {**ANSWER, "thinking": None}]}).messages[1].reasoning == ""


def test_parts_of_a_content_are_joined() -> None:
    parts = [{"type": "text", "text": "Name a tree "}, {"type": "text", "text": "without leaves.", "image": None}]
    tree = read("messages", {"messages": [{"role": "user", "content": parts}, ANSWER]})
    assert tree.messages[0].text == "Name a tree without leaves."


def test_sharegpt_has_calls_and_observations() -> None:
    call = '{"name": "rain", "arguments": {"city": "Bergen"}}'
    turns = [
        {"from": "human", "value": "Does it rain?"},
        {"from": "function_call", "value": call},
        {"from": "observation", "value": "[1]"},
        {"from": "gpt", "value": "Yes."},
    ]
    tree = read("sharegpt", {"conversations": turns, "tools": json.dumps([DEFINITION])})
    assert [message.role for message in tree.messages] == ["user", "assistant", "tool", "assistant"]
    assert tree.messages[1].tool_calls == (ToolCall("rain", '{"city": "Bergen"}'),)
    assert tree.messages[1].text == ""
    assert tree.messages[0].tools
    turns[1]["value"] = f"[{call}, {call}]"
    assert len(read("sharegpt", {"conversations": turns}).messages[1].tool_calls) == 2


def test_a_result_may_be_empty_but_a_question_may_not() -> None:
    assert read("messages", {"messages": [*calling()[:2], {**RESULT, "content": ""}, ANSWER]}).messages[2].text == ""
    with pytest.raises(DataError, match=r"messages\[0\] \(user\) is empty"):
        read("messages", {"messages": [{"role": "user", "content": ""}, ANSWER]})


def test_turns_of_one_role_are_merged_where_the_option_says_so() -> None:
    row = {"messages": [ASK, {"role": "user", "content": "And in Oslo?"}, ANSWER]}
    assert len(read("messages", row).messages) == 3
    merged = read("messages", row, same_role="merge").messages
    assert [message.text for message in merged] == [f"{ASK['content']}\nAnd in Oslo?", ANSWER["content"]]
    with pytest.raises(DataError, match=r"set options\.same_role to merge"):
        read("messages", row, same_role="error")


def test_a_turn_with_calls_is_merged_with_the_text_before_it() -> None:
    row = {"messages": [ASK, {"role": "assistant", "content": "Let me see."}, *calling()[1:]]}
    merged = read("messages", row, same_role="merge").messages
    assert (merged[1].text, len(merged[1].tool_calls)) == ("Let me see.", 1)
    with pytest.raises(DataError, match="turns 1 and 2 cannot be joined"):
        read("messages", {"messages": [*calling()[:2], ANSWER]}, same_role="merge")
    marked = [ASK, {**ANSWER, "weight": 0}, ANSWER]
    with pytest.raises(DataError, match="one is trained, the other is not"):
        read("messages", {"messages": marked}, same_role="merge")


def test_pairs_prompts_and_completions_carry_tools_and_reasoning() -> None:
    thinking = {**ANSWER, "reasoning_content": "Coast."}
    pair = {"chosen": [*calling()[:3], thinking], "rejected": [*calling()[:3], ANSWER], "tools": [DEFINITION]}
    tree = read("preference", pair)
    assert tree.messages[0].tools
    assert tree.messages[1].tool_calls
    assert [message.reasoning for message in tree.messages[3:]] == ["Coast.", ""]
    calls = read("preference", {"chosen": calling()[:2], "rejected": [ASK, ANSWER]}).messages
    assert [len(message.tool_calls) for message in calls] == [0, 1, 0]
    prompt = read("prompts", {"prompt": calling()[:3], "tools": [DEFINITION]}).messages
    assert prompt[-1].role == "tool"
    assert prompt[0].tools
    tree = read("prompt-completion", {"prompt": calling()[:3], "completion": [ANSWER], "tools": [DEFINITION]})
    assert tree.messages[0].tools
    assert [message.trained for message in tree.messages] == [None, False, None, None]


def test_what_differs_in_tools_or_reasoning_is_no_duplicate() -> None:
    plain = Message("assistant", "a")
    others = [
        Message("assistant", "a", reasoning="r"),
        Message("assistant", "a", tool_calls=(ToolCall("r"),)),
        Message("assistant", "a", tools="[]"),
    ]
    assert len({content_key(Tree.path([message])) for message in (plain, *others)}) == 4


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    ["content", "tool_calls", "tool_call_id", "name", "reasoning", "thinking", "id", "type", "function", "arguments"]
)
messages = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "tool"])}, optional={"content": st.text(max_size=4)}
).flatmap(lambda base: st.dictionaries(KEYS, values, max_size=4).map(lambda more: {**base, **more}))


@settings(max_examples=150, deadline=None)
@given(turns=st.lists(messages, min_size=1, max_size=4), tools=values)
def test_any_message_with_tools_is_read_or_refused(turns: list[dict[str, Any]], tools: Any) -> None:
    try:
        tree = read("messages", {"messages": turns, "tools": tools})
    except DataError:
        return
    assert len(tree.messages) == len(turns)


def test_definitions_of_tools_stay_with_the_first_message_where_the_system_is_a_column() -> None:
    row = {
        "system": "Be brief.",
        "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}],
        "tools": [{"type": "function", "function": {"name": "search"}}],
    }
    result = open_reader("messages", {}, {})(row)
    assert isinstance(result, ReadTree)
    assert [(message.role, bool(message.tools)) for message in result.tree.messages] == [
        ("system", True),
        ("user", False),
        ("assistant", False),
    ]
