"""Which reader the rows of a file are recognised for, and that nothing is guessed where two of them are possible."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.bad_records import GOOD_RECORDS, GROUPS
from tests.data.readers.test_any_row import INNER, any_json, likely
from tunesmith.data.readers.columns import ANSWER, CHOSEN, PASSAGE, QUESTION, REJECTED
from tunesmith.data.readers.forms import EXACT, OTHER_ROLES, Reading
from tunesmith.data.readers.reader import ReadTree
from tunesmith.data.readers.recognition import NotRecognised, Recognised, recognise
from tunesmith.data.readers.registry import READERS, Purpose, find_setting_problems, open_reader
from tunesmith.data.sources.message_keys import SPEAKERS
from tunesmith.text.tree import Message

PREFERENCE_ROWS = ("prompts: a pair", "prompts: the prompt of a pair")
"""Rows of the reader `prompts` that hold more than a prompt."""


def found(*rows: dict[str, Any], needed: Purpose | None = None) -> Reading:
    result = recognise(rows, needed)
    assert isinstance(result, Recognised), result.what
    return result.reading


def refused(*rows: dict[str, Any], needed: Purpose | None = None) -> NotRecognised:
    result = recognise(rows, needed)
    assert isinstance(result, NotRecognised), result.reading
    return result


def messages_of(reading: Reading, row: dict[str, Any]) -> tuple[Message, ...]:
    result = open_reader(reading.reader, reading.fields, reading.options)(row)
    assert isinstance(result, ReadTree)
    return result.tree.messages


@pytest.mark.parametrize("name", [name for name in GOOD_RECORDS if name not in PREFERENCE_ROWS])
def test_a_valid_row_of_every_reader_is_recognised_for_that_reader(name: str) -> None:
    reader, row = GOOD_RECORDS[name]
    assert found(dict(row)).reader == reader


@pytest.mark.parametrize("reader", GROUPS)
def test_rows_that_make_one_record_are_recognised_together(reader: str) -> None:
    for rows in GROUPS[reader].good.values():
        assert found(*map(dict, rows)).reader == reader


def test_the_table_of_exact_names_has_every_reader_with_names_of_its_own() -> None:
    assert {reader for reader, _ in EXACT} == {*READERS} - {"text", "prompts"}


@pytest.mark.parametrize("question", QUESTION)
@pytest.mark.parametrize("answer", ["answer", "reply", "Target", "modelResponse"])
def test_usual_names_of_question_and_answer_are_renamed(question: str, answer: str) -> None:
    row = {question: "What is 2 + 2?", answer: "It is 4.", "id": "7", "category": "sums"}
    assert messages_of(found(row), row) == (Message("user", "What is 2 + 2?"), Message("assistant", "It is 4."))


@pytest.mark.parametrize("answer", ANSWER)
def test_usual_names_of_the_reply_are_renamed(answer: str) -> None:
    row = {"Question": "What is 2 + 2?", answer: "It is 4."}
    assert messages_of(found(row), row) == (Message("user", "What is 2 + 2?"), Message("assistant", "It is 4."))


@pytest.mark.parametrize("passage", PASSAGE)
def test_a_passage_stays_with_its_question(passage: str) -> None:
    row = {"question": "Who won?", passage: "Ann won the race.", "answer": "Ann."}
    assert messages_of(found(row), row)[0] == Message("user", "Who won?", context="Ann won the race.")


@pytest.mark.parametrize(("chosen", "rejected"), [*zip(CHOSEN, REJECTED, strict=False)])
def test_usual_names_of_preferences_are_renamed(chosen: str, rejected: str) -> None:
    row = {"question": "Who won?", chosen: "Ann.", rejected: "No idea."}
    reading = found(row)
    assert reading.reader == "preference-text"
    assert [message.rank for message in messages_of(reading, row)] == [None, 0, 1]


def test_replies_that_begin_with_their_prompt_are_cut_and_that_is_said() -> None:
    row = {"prompt": "Name a river of Portugal.", "chosen": "Name a river of Portugal. The Douro."}
    result = recognise([{**row, "rejected": "Name a river of Portugal. None."}])
    assert isinstance(result, Recognised)
    assert result.description() == (
        "reader: preference-text (recognised from 1 row: prompt, chosen, rejected, prompt_again: cut)"
    )


@pytest.mark.parametrize("column", ["messages", "conversation", "dialog", "turns"])
@pytest.mark.parametrize("keys", [("role", "content"), ("from", "value"), ("speaker", "text")])
@pytest.mark.parametrize("roles", [("user", "assistant"), ("human", "gpt"), ("customer", "agent")])
def test_lists_of_turns_are_read_under_any_name(column: str, keys: tuple[str, str], roles: tuple[str, str]) -> None:
    turns = [{keys[0]: role, keys[1]: text} for role, text in zip(roles, ("Hi", "Hello."), strict=True)]
    row = {column: turns, "id": "a"}
    result = recognise([row])
    if roles[0] == "customer" and keys == ("from", "value"):
        assert isinstance(result, Recognised)
        assert result.reading.reader == "messages"
    assert messages_of(found(row), row) == (Message("user", "Hi"), Message("assistant", "Hello."))


def test_what_was_recognised_is_said_in_one_line() -> None:
    result = recognise([{"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}] * 200)
    assert isinstance(result, Recognised)
    assert result.description() == "reader: sharegpt (recognised from 200 rows: conversations[].from/value)"


def test_two_possible_questions_are_both_named_and_none_is_taken() -> None:
    result = refused({"question": "Who won?", "query": "race winner", "answer": "Ann."})
    assert result.what == "the rows can be read as alpaca (question, answer) or as alpaca (query, answer)"
    assert [reading.fields for reading in result.nearest] == [
        {"instruction": "question", "output": "answer"},
        {"instruction": "query", "output": "answer"},
    ]


def test_two_readings_that_give_the_same_conversations_are_one() -> None:
    row = {"prompt": "Hi", "completion": "Hello.", "instruction": "Hi", "output": "Hello."}
    assert found(row).reader == "alpaca"


def test_prompts_alone_are_prompts_but_no_demonstrations() -> None:
    assert found({"prompt": "Hi", "id": "1"}).reader == "prompts"
    result = refused({"prompt": "Hi", "id": "1"}, needed="demonstrations")
    assert result.what == "the rows have prompts in 'prompt' and no column that is known as the reply"
    assert result.nearest[0].fields == {"instruction": "prompt", "output": "COLUMN"}


def test_a_prompt_next_to_an_unknown_text_is_ambiguous() -> None:
    result = refused({"prompt": "Hi", "antwort": "Hallo."})
    assert result.what == "the rows can be read as prompts (prompt) or as alpaca (prompt, antwort)"


def test_a_column_text_is_a_document_only_where_nothing_else_is_a_question_or_a_reply() -> None:
    assert found({"text": "Once upon a time.", "title": "A tale"}).reader == "text"
    assert found({"instruction": "a", "input": "b", "output": "c", "text": "a b c"}).reader == "alpaca"
    assert refused({"prompt": "a", "text": "b"}).nearest[1].fields == {"instruction": "prompt", "output": "text"}


def test_the_nearest_reader_is_the_one_whose_names_all_columns_have() -> None:
    result = refused({"prompt": "a", "chosen": "b", "rejected": "c", "score_chosen": 1, "score_rejected": 5})
    assert result.what == (
        "the nearest reader is preference-text, which cannot read 1 of 1 records: field 'chosen' has the score 1, "
        "below 5 of field 'rejected' (are chosen and rejected swapped?)"
    )


def test_columns_that_nobody_knows_are_listed_with_the_nearest_reader() -> None:
    result = refused({"frage": "Wer?", "antwort": "Ann.", "id": "1"})
    assert result.what == (
        "which of the columns 'frage', 'antwort', 'id' are the instruction and the response is not known"
    )
    assert result.nearest == (Reading("alpaca", ("frage", "antwort"), {"instruction": "frage", "output": "antwort"}),)


@pytest.mark.parametrize("needed", [None, "demonstrations", "rankings"])
def test_a_table_without_a_header_is_refused_without_words_that_lose_its_first_record(needed: Purpose | None) -> None:
    result = refused({"Who won?": "Who lost?", "Ann.": "Ben."}, needed=needed)
    assert result.what == "the first line looks like a record, not like names of columns"
    assert result.advice("--") == result.advice("data.sources.0") == "put a line such as question,answer before it"


def test_no_message_has_a_raw_line_break_of_a_name() -> None:
    row = {"a\nb": "x", "id": "7"}
    for result in (refused(row), refused({**row, "prompt": "Hi"})):
        assert "\n" not in f"{result.what} {result.advice('--')} {result.advice('data.sources.0')}"
    taken = recognise([{"Instruction\n": "Hi", "Output": "Hello."}])
    assert isinstance(taken, Recognised)
    assert taken.description() == "reader: alpaca (recognised from 1 row: Instruction\\n, Output)"


def test_a_column_that_changes_the_meaning_is_named() -> None:
    result = refused({"prompt": "Hi", "completion": "Hello.", "label": "good"})
    assert result.what.startswith(
        "the nearest reader is prompt-completion, which cannot read 1 of 1 records: 'label' holds which replies"
    )


def test_trees_of_messages_are_read_as_what_the_objective_needs() -> None:
    state = {"tree_state": "ready_for_export", "review_result": True}
    message = {**state, "message_tree_id": "t", "parent_id": "a", "role": "assistant"}
    rows = [
        {**message, "message_id": "a", "parent_id": None, "text": "Hi", "role": "prompter"},
        {**message, "message_id": "b", "text": "Hello.", "rank": 0},
        {**message, "message_id": "c", "text": "Go away.", "rank": 1},
    ]
    assert found(*rows).options == {}
    assert found(*rows, needed="rankings").options == {"keep": "rankings"}
    result = refused(*rows[:2], needed="rankings")
    assert result.what.startswith("the reader oasst-messages uses none of the first 1 records: ")


def test_messages_that_were_not_reviewed_are_read_only_where_nothing_else_is_there() -> None:
    row = dict(GOOD_RECORDS["oasst: the row itself"][1])
    assert found(row).options == {}
    early = {"prompt": {**row["prompt"], "review_result": None}}
    assert found(row, early, row).options == {}
    assert found(early).options == {"states": None, "reviewed": False}


def feedback_row(ranks: Sequence[int | None], by_people: int = 0) -> dict[str, Any]:
    """A tree with replies of models, the first few of them written by people."""
    replies = [
        {"message_id": str(number), "text": f"r{number}", "role": "assistant", "rank": rank,
         "synthetic": number >= by_people}
        for number, rank in enumerate(ranks)
    ]  # fmt: skip
    root = {"message_id": "q", "text": "Why?", "role": "prompter", "review_result": True, "replies": replies}
    return {"tree_state": "ready_for_export", "prompt": root, "conversation_id": "c"}


def test_replies_of_models_are_read_where_few_others_are_there() -> None:
    compared, good = feedback_row([0, 1]), feedback_row([None])
    to_compare, to_imitate = {"keep": "rankings", "synthetic": True}, {"top_k": 1, "synthetic": True}
    assert found(compared, good).options == to_compare
    assert found(good, good, compared).options == to_imitate
    assert found(good, good, compared, needed="rankings").options == to_compare
    assert found(compared, good, needed="demonstrations").options == to_imitate
    edited = feedback_row([0, 1], by_people=1)
    assert found(edited, compared, compared).options == to_compare
    assert found(edited, good).options == to_compare
    assert found(edited, edited, compared).options == {}
    assert found(edited, needed="rankings").options == to_compare


def test_a_few_bad_rows_do_not_change_what_is_recognised() -> None:
    good = {"question": "Who won?", "answer": "Ann."}
    assert found(*[good] * 6, *[{"question": "Who?", "answer": None}] * 3, {"x": 1}).reader == "alpaca"


def test_no_rows_are_refused() -> None:
    assert refused().what == refused({"a": None}).what == "there are no rows with columns that hold something"


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_rows_are_recognised_or_refused_and_what_is_named_is_a_setting_of_the_reader(data: st.DataObject) -> None:
    names = sorted({name for reader in READERS.values() for name in reader.columns} | {*INNER, *ANSWER, "zz"})
    row = st.dictionaries(st.sampled_from(names), likely, max_size=5) | st.dictionaries(st.text(max_size=3), any_json)
    rows = data.draw(st.lists(row, max_size=4))
    needed: Purpose | None = data.draw(st.sampled_from([None, "demonstrations", "rankings"]))
    result = recognise(rows, needed)
    assert recognise(rows, needed) == result
    for reading in [result.reading] if isinstance(result, Recognised) else result.nearest:
        assert not [*find_setting_problems(reading.reader, reading.fields, reading.options)]
    if isinstance(result, NotRecognised):
        assert result.what
        assert "\n" not in repr(result.what)


def test_the_speakers_by_which_files_know_messages_are_those_with_a_role() -> None:
    assert {name.lower() for name in OTHER_ROLES} == SPEAKERS


def test_the_reader_of_transcripts_is_not_the_nearest_one_of_lists_of_messages() -> None:
    ask, good, bad = ({"role": role, "content": text} for role, text in (("user", "Q"), *[("assistant", "x")] * 2))
    result = refused({"prompt": "Another", "chosen": [ask, good], "rejected": [ask, {**bad, "content": "y"}]})
    assert result.what.startswith("the nearest reader is preference, which cannot read 1 of 1 records: field 'prompt'")
    assert "ignore: [prompt]" in result.what
