"""Single exchanges: what the readers of instructions, prompts with completions and plain texts make of a row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.data.outcomes import read, tree_of, whole_tree_of
from tunesmith.data.readers.reader import Filtered
from tunesmith.errors import DataError
from tunesmith.text.tree import Message, Tree


def test_citations_are_taken_out_of_dolly_where_asked() -> None:
    row = {
        "instruction": "What [1]?",
        "context": "It is [12], [3, 4] [5,  6,7] [ 8 ] [note 1].",
        "response": "So [a].[citation needed]",
    }
    assert tree_of(read("dolly", row, strip_citations=True)) == Tree.path(
        (Message("user", "What [1]?", context="It is ,   [ 8 ] [note 1]."), Message("assistant", row["response"]))
    )
    assert tree_of(read("dolly", row)).messages[0].context == row["context"]


def test_a_phrase_drops_a_row_of_alpaca_wherever_it_occurs() -> None:
    row = {"instruction": "Say this:", "input": "I'm sorry, I cannot.", "output": "Fine."}
    assert read("alpaca", row, drop_phrases=("i'm sorry, i cannot",)) == Filtered("phrase in the row")
    assert read("alpaca", row, drop_phrases=("SAY THIS",)) == Filtered("phrase in the row")
    assert read("alpaca", row, drop_phrases=("fine",)) == Filtered("phrase in the row")
    assert tree_of(read("alpaca", row, drop_phrases=("this: fine",)))


def test_an_empty_output_of_alpaca_may_be_kept() -> None:
    row = {"instruction": "Say nothing.", "output": ""}
    assert [message.text for message in tree_of(read("alpaca", row, empty="keep")).messages] == ["Say nothing.", ""]
    with pytest.raises(DataError, match="'instruction' is empty"):
        read("alpaca", {**row, "instruction": ""}, empty="keep")


def test_citations_go_as_in_the_original(golden: Callable[[str], dict[str, Any]]) -> None:
    cases = [case for case in golden("extras")["cases"] if case["kind"] == "oa_dolly15k"]
    fields = {"instruction": "INSTRUCTION", "response": "RESPONSE", "context": "METADATA.CONTEXT"}
    compared = 0
    for case in cases:
        outcome = read("dolly", case["input"], fields, strip_citations=True, empty="drop")
        if case["expected"] is None:
            # The original also turns rows away by phrases, which is an option of another reader here.
            assert outcome == Filtered("empty instruction") or case["input"]["INSTRUCTION"]
            continue
        first, second = tree_of(outcome).messages
        assert [first.text, second.text] == case["expected"]["turns"]
        assert first.context == case["expected"]["context"]
        compared += 1
    assert (compared, len(cases)) == (2, 5)


def test_a_column_may_lie_inside_an_object_and_a_name_with_a_dot_comes_first() -> None:
    row = {"a": {"b": "inside"}, "response": "r"}
    assert tree_of(read("dolly", row, {"instruction": "a.b"})).messages[0].text == "inside"
    assert tree_of(read("dolly", {**row, "a.b": "outside"}, {"instruction": "a.b"})).messages[0].text == "outside"
    with pytest.raises(DataError, match=r"field 'a.c' is missing; the columns are a, response"):
        read("dolly", row, {"instruction": "a.c"})


TURNS = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]


@pytest.mark.parametrize(
    ("prompt", "completion", "expected"),
    [
        ("a", "b", (Message("user", "a"), Message("assistant", "b"))),
        (
            TURNS,
            "d",
            (
                Message("user", "a"),
                Message("assistant", "b", trained=False),
                Message("user", "c"),
                Message("assistant", "d"),
            ),
        ),
        ("a", [{"role": "assistant", "content": "b"}], (Message("user", "a"), Message("assistant", "b"))),
    ],
)
def test_a_prompt_and_its_completion_are_texts_or_lists(prompt: Any, completion: Any, expected: Any) -> None:
    assert whole_tree_of(read("prompt-completion", {"prompt": prompt, "completion": completion})) == Tree.path(expected)


@pytest.mark.parametrize(
    ("prompt", "completion", "says"),
    [
        (None, "b", "field 'prompt' is null, not text"),
        ("a", 1, "field 'completion' is a number, not text"),
        ("a", " ", "field 'completion' is empty"),
        ([], "b", "field 'prompt' is empty"),
        ("a", TURNS[:1], "field 'completion' has no assistant message"),
        ("a", TURNS[:2], "field 'completion' does not begin with the assistant"),
        ([{"role": "robot", "content": "a"}], "b", r"prompt\[0\]: role 'robot' is unknown"),
        ([{"role": "user", "content": ""}], "b", r"prompt\[0\] \(user\) is empty"),
        ([{"role": "user", "content": "a", "name": "n"}], "b", r"prompt\[0\] has 'name'"),
    ],
)
def test_a_wrong_prompt_or_completion_is_named(prompt: Any, completion: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        read("prompt-completion", {"prompt": prompt, "completion": completion})


def test_an_empty_completion_can_be_filtered() -> None:
    row = {"prompt": "a", "completion": " "}
    assert read("prompt-completion", row, empty="drop") == Filtered("empty completion")


def test_a_text_is_one_message_of_the_assistant() -> None:
    assert whole_tree_of(read("text", {"text": " Once.\n"})) == Tree.path((Message("assistant", " Once.\n"),))
    assert whole_tree_of(read("text", {"body": "x"}, {"text": "body"})) == Tree.path((Message("assistant", "x"),))
    with pytest.raises(DataError, match="field 'text' is empty"):
        read("text", {"text": "\n"})
