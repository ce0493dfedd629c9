"""Conversations in ShareGPT's form: spellings, turns before the first question, repeated roles, clean-ups."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.data.outcomes import read, says, tree_of, whole_tree_of
from tunesmith.data.readers.reader import Filtered, ReadTree
from tunesmith.errors import DataError
from tunesmith.text.tree import Message, Tree


def chat(*turns: tuple[str, Any], column: str = "conversations") -> dict[str, Any]:
    return {column: [{"from": who, "value": text} for who, text in turns]}


@pytest.mark.parametrize("user", ["human", "user"])
@pytest.mark.parametrize("assistant", ["gpt", "assistant", "chatgpt", "bing", "bard"])
@pytest.mark.parametrize("column", ["conversations", "items"])
def test_every_spelling_is_the_same_conversation(user: str, assistant: str, column: str) -> None:
    expected = Tree.path((Message("system", "s"), Message("user", "a"), Message("assistant", "b")))
    row = chat(("system", "s"), (user, "a"), (assistant, "b"), column=column)
    assert whole_tree_of(read("sharegpt", row)) == expected
    turns = [{"role": "system", "content": "s"}, {"role": user, "content": "a"}, {"role": assistant, "content": "b"}]
    assert whole_tree_of(read("sharegpt", {column: turns})) == expected


LEADING = chat(("system", "s"), ("gpt", "x"), ("gpt", "y"), ("human", "a"), ("gpt", "b"))


def test_what_the_assistant_says_first_is_an_error_or_cut_or_the_end_of_the_row() -> None:
    with pytest.raises(DataError, match="conversations: the assistant speaks first"):
        read("sharegpt", LEADING)
    assert read("sharegpt", LEADING, leading="drop") == Filtered("the assistant speaks first")
    cut = read("sharegpt", LEADING, leading="cut")
    assert isinstance(cut, ReadTree)
    assert cut.dropped == {"before the first question": 2}
    assert [message.text for message in cut.tree.messages] == ["s", "a", "b"]
    assert read("sharegpt", chat(("gpt", "x"), ("human", "a")), leading="cut") == Filtered("no answer left")


def test_a_role_twice_in_a_row_is_an_error_or_one_turn() -> None:
    row = chat(("human", "a"), ("human", "b"), ("gpt", "c"))
    with pytest.raises(DataError, match="conversations: turns 0 and 1 are both of the user"):
        read("sharegpt", row)
    assert says(read("sharegpt", row, same_role="merge")) == [["a\nb", "c"]]


def test_texts_are_cleaned_only_where_asked() -> None:
    row = chat(("human", " snake\\_case \\*x\\* [1] "), ("gpt", "so [2]"))
    assert says(read("sharegpt", row)) == [[" snake\\_case \\*x\\* [1] ", "so [2]"]]
    cleaned = read("sharegpt", row, unescape=True, strip=True, strip_citations=True)
    assert says(cleaned) == [["snake_case *x*", "so"]]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({}, "field 'conversations' is missing"),
        ({"conversations": None}, "field 'conversations' is null, not a list"),
        (chat(), "field 'conversations' is empty"),
        (chat(("human", "a"), ("gpt", None)), r"conversations\[1\].value is null, not text"),
        (chat(("human", "a"), ("robot", "b")), r"conversations\[1\]: role 'robot' is unknown"),
        (chat(("human", "a"), ("gpt", " ")), r"conversations\[1\] \(assistant\) is empty"),
        (chat(("human", "a")), "has no assistant message"),
        ({"conversations": ["a"]}, r"conversations\[0\] is text, not an object with from and value"),
        ({"items": [{"from": "human"}]}, r"items\[0\].value is null"),
    ],
)
def test_a_wrong_conversation_is_named(row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read("sharegpt", row)


def test_an_empty_turn_can_turn_the_row_away() -> None:
    assert read("sharegpt", chat(("human", "a"), ("gpt", "")), empty="drop") == Filtered("empty turn")


def test_conversations_are_cleaned_as_in_the_original(golden: Callable[[str], dict[str, Any]]) -> None:
    """But for its cut after a number of characters, which is no concern of a reader."""
    cases = [case for case in golden("extras")["cases"] if case["kind"] == "vicuna"]
    options = {"unescape": True, "strip": True, "strip_citations": True, "same_role": "merge", "leading": "drop"}
    compared = 0
    for case in cases:
        row, limit = case["input"], case["settings"]["input_max_length"]
        if case["expected"] is None:
            if row["conversations"]:
                assert isinstance(read("sharegpt", row, empty="drop", **options), Filtered)
            else:
                with pytest.raises(DataError, match="is empty"):
                    read("sharegpt", row, empty="drop", **options)
        else:
            messages = tree_of(read("sharegpt", row, **options)).messages
            for role, name in (("user", "questions"), ("assistant", "answers")):
                found = [message.text[:limit] for message in messages if message.role == role]
                assert [text[:limit] for text in case["expected"][name]] == found
        compared += 1
    assert compared == len(cases) == 6


def test_a_message_of_the_user_may_have_a_passage() -> None:
    asked = {"role": "user", "content": "Who?", "context": "Ada has a cat."}
    answer = {"role": "assistant", "content": "Ada."}
    assert tree_of(read("messages", {"messages": [asked, answer]})).messages == (
        Message("user", "Who?", context="Ada has a cat."),
        Message("assistant", "Ada."),
    )
    with pytest.raises(DataError, match=r"messages\[1\] has 'context'"):
        read("messages", {"messages": [asked, {**answer, "context": "x"}]})
    merged = {"messages": [{"role": "user", "content": "Now:"}, asked, answer]}
    assert tree_of(read("messages", merged, same_role="merge")).messages[0] == Message(
        "user", "Now:\nWho?", context="Ada has a cat."
    )
    with pytest.raises(DataError, match="the passage of the first would follow the text of the second"):
        read("messages", {"messages": [asked, asked, answer]}, same_role="merge")
