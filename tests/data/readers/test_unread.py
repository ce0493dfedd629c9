"""Columns and message keys that a reader does not read: those with a meaning are refused, all others are counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.outcomes import chat, group, read, says, tree_of, write_rows
from tests.data.readers.test_any_row import any_json
from tunesmith.data.readers.meanings import MEANINGS, NAMES
from tunesmith.data.readers.pipeline import Pipeline, read_source
from tunesmith.data.readers.reader import ReadTree
from tunesmith.data.readers.registry import READERS, contents_of, open_reader
from tunesmith.data.readers.source_config import SourceConfig
from tunesmith.data.readers.unread import find_unread, without
from tunesmith.data.sources.rows import SourceRow
from tunesmith.errors import DataError

DOLLY = {"instruction": "Name a lake.", "response": "Lake Garda."}
ALPACA = {"instruction": "Name a lake.", "output": "Lake Garda."}
COMPLETION = {"prompt": "Name a lake.", "completion": "Lake Garda."}
CHAT = {"messages": chat("Name a lake.", "Lake Garda.")}
GPT = {"from": "gpt", "value": "Lake Garda."}
SHARED = {"conversations": [{"from": "human", "value": "Name a lake."}, GPT]}
PAIR = {"prompt": "Name a lake.", "chosen": "Lake Garda.", "rejected": "The Po."}
PAIR_OF_TURNS = {"conversations": SHARED["conversations"][:1], "chosen": GPT, "rejected": {**GPT, "value": "The Po."}}
QUESTION = {"role": "user", "content": "Name a lake."}
PAIR_OF_CHATS = {"chosen": CHAT["messages"], "rejected": chat("Name a lake.", "The Po.")}
TRANSCRIPTS = {"chosen": "\n\nHuman: Hi\n\nAssistant: Yes?", "rejected": "\n\nHuman: Hi\n\nAssistant: No."}
OASST = {"prompt": {"message_id": "q", "role": "prompter", "text": "Hi"}, "tree_state": "ready_for_export"}
TREE = {**OASST, "prompt": {**OASST["prompt"], "review_result": True, "replies": []}}  # type: ignore[dict-item]

REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "history of dolly": ("dolly", {**DOLLY, "history": [["a", "b"]]}),
    "chat history of ShareGPT turns": ("sharegpt", {**SHARED, "Chat History": [["a", "b"]]}),
    "the passage of alpaca in dolly": ("dolly", {**DOLLY, "input": "a passage"}),
    "the passage of dolly in alpaca": ("alpaca", {**ALPACA, "context": "a passage"}),
    "images beside messages": ("messages", {**CHAT, "images": ["a.png"]}),
    "audio of alpaca": ("alpaca", {**ALPACA, "audios": ["a.wav"]}),
    "a video of a pair": ("preference-text", {**PAIR, "video": "a.mp4"}),
    "an image in a transcript": ("hh", {**TRANSCRIPTS, "image": "a.png"}),
    "functions of a completion": ("prompt-completion", {**COMPLETION, "functions": [{"name": "f"}]}),
    "functions of ShareGPT turns": ("sharegpt", {**SHARED, "functions": '[{"name": "f"}]'}),
    "tools of dolly": ("dolly", {**DOLLY, "tools": [{"name": "f"}]}),
    "reasoning of dolly": ("dolly", {**DOLLY, "reasoning": "It is in Italy."}),
    "thinking of a completion": ("prompt-completion", {**COMPLETION, "thinking": "It is in Italy."}),
    "a rejected reply in alpaca": ("alpaca", {**ALPACA, "rejected_response": "The Po."}),
    "a rejected conversation": ("sharegpt", {**SHARED, "rejected": GPT}),
    "a label of KTO": ("prompt-completion", {**COMPLETION, "label": False}),
    "a margin of a demonstration": ("dolly", {**DOLLY, "margin": 0.5}),
    "a weight of alpaca": ("alpaca", {**ALPACA, "weight": 0}),
    "a mask of the whole row": ("messages", {**CHAT, "train": False}),
    "a mask of unclear meaning": ("messages", {"messages": [chat("a")[0], {**chat("a", "b")[1], "mask": 1}]}),
    "a label inside a message": ("sharegpt", {"conversations": [SHARED["conversations"][0], {**GPT, "label": True}]}),
    "media inside of a prompt's message": ("preference", {**PAIR_OF_CHATS, "prompt": [{**QUESTION, "image": "a"}]}),
    "media inside of a prompt": ("prompts", {"prompt": [{**chat("a")[0], "video": "a.mp4"}]}),
    "system beside a document": ("text", {"text": "a", "system": "b"}),
    "images of a tree": ("oasst", {**TREE, "prompt": {**TREE["prompt"], "images": ["a.png"]}}),
}


@pytest.mark.parametrize(("reader", "row"), REFUSED.values(), ids=REFUSED)
def test_a_row_with_a_part_that_its_reader_does_not_read_is_refused(reader: str, row: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="does not read it") as refused:
        read(reader, row)
    name = refused.value.what.split("'")[1]
    assert f"ignore: [{name}]" in str(refused.value).replace('"', "")
    if reader != "oasst":  # the tree has no answer
        assert isinstance(open_reader(reader, {}, {}, ignore=[name])(row), ReadTree)


NOT_REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "columns that describe a record": ("dolly", {**DOLLY, "category": "geography", "id": 7, "source": "me"}),
    "columns with nothing in them": (
        "dolly",
        {**DOLLY, "history": [], "images": None, "tools": "[]", "system": " ", "reasoning": ""},
    ),
    "a weight that changes nothing": ("alpaca", {**ALPACA, "weight": 1.0, "train": True}),
    "a label beside a document": ("text", {"text": "a", "label": 3}),
    "replies beside prompts": ("prompts", {"prompt": "a", "chosen": "b", "rejected": "c", "margin": 1}),
    "a class of text": ("dolly", {**DOLLY, "labels": ["a"], "score": 3}),
}


@pytest.mark.parametrize(("reader", "row"), NOT_REFUSED.values(), ids=NOT_REFUSED)
def test_a_row_is_read_where_nothing_of_it_is_lost(reader: str, row: dict[str, Any]) -> None:
    assert says(read(reader, row))


def test_every_name_belongs_to_one_meaning_and_is_written_as_it_is_compared() -> None:
    assert len(MEANINGS) == sum(map(len, NAMES.values()))
    assert all(name == name.lower() and name.isidentifier() for name in MEANINGS)


SYSTEM: dict[str, tuple[str, dict[str, Any]]] = {
    "messages": ("messages", CHAT),
    "sharegpt": ("sharegpt", SHARED),
    "alpaca": ("alpaca", ALPACA),
    "dolly": ("dolly", DOLLY),
    "prompt-completion": ("prompt-completion", COMPLETION),
    "preference": ("preference", PAIR_OF_CHATS),
    "preference-text": ("preference-text", PAIR),
    "preference-sharegpt": ("preference-sharegpt", PAIR_OF_TURNS),
    "hh": ("hh", TRANSCRIPTS),
    "prompts": ("prompts", {"prompt": "Hi"}),
}


@pytest.mark.parametrize("column", ["system", "system_prompt", "system_message"])
@pytest.mark.parametrize(("reader", "row"), SYSTEM.values(), ids=SYSTEM)
def test_a_column_of_the_system_is_the_first_message(reader: str, row: dict[str, Any], column: str) -> None:
    plain, found = tree_of(read(reader, row)), tree_of(read(reader, {**row, column: " Answer in French."}))
    assert found.messages[0].role == "system"
    assert found.messages[0].text == " Answer in French."
    assert found.messages[1:] == plain.messages
    assert found.parents[1:] == tuple(parent + 1 for parent in plain.parents)


def test_the_column_of_the_system_may_have_any_name_and_then_only_that_one_counts() -> None:
    row = {**CHAT, "persona": "Be brief."}
    assert says(read("messages", row, {"system": "persona"})) == [["Be brief.", "Name a lake.", "Lake Garda."]]
    with pytest.raises(DataError, match="'system_prompt' holds what the system says"):
        read("messages", {**row, "system_prompt": "Be long."}, {"system": "persona"})


def test_a_system_message_and_a_column_of_the_system_must_agree() -> None:
    given = {"messages": [{"role": "system", "content": "Be brief."}, *CHAT["messages"]]}
    assert says(read("messages", {**given, "system": "Be brief. "})) == says(read("messages", given))
    with pytest.raises(DataError, match="'system' differs from the first message"):
        read("messages", {**given, "system": "Be long."})
    ignoring = open_reader("messages", {}, {}, ignore=["system"])
    assert says(ignoring({**given, "system": "Be long."})) == says(read("messages", given))
    with pytest.raises(DataError, match="two different texts of the system"):
        read("dolly", {**DOLLY, "system": "Be brief.", "system_prompt": "Be long."})
    with pytest.raises(DataError, match="'system' is a list, not text"):
        read("dolly", {**DOLLY, "system": ["Be brief."]})


def test_the_rows_of_a_group_have_one_text_of_the_system() -> None:
    rated = dict.fromkeys(("helpfulness", "correctness", "coherence", "complexity"), 3)
    rows = [{"prompt": "q", "response": text, **rated, "helpfulness": index} for index, text in enumerate("ab")]
    found = read("helpsteer", group([{**row, "system": "Be brief."} for row in rows]))
    assert says(found) == [["Be brief.", "q", "b"], ["Be brief.", "q", "a"]]
    with pytest.raises(DataError, match="two different texts"):
        read("helpsteer", group([{**rows[0], "system": "Be brief."}, {**rows[1], "system": "Be long."}]))
    with pytest.raises(DataError, match="images") as refused:
        read("helpsteer", group([rows[0], {**rows[1], "images": ["a.png"]}]))
    assert refused.value.where == "f.jsonl:2"


HISTORY = [["How many?", "Twelve."], ["Who left?", "One."]]


def test_the_history_of_alpaca_comes_before_its_instruction() -> None:
    row = {**ALPACA, "input": "in Italy", "history": HISTORY, "system": "You are a pirate."}
    tree = tree_of(read("alpaca", row))
    assert [message.role for message in tree.messages] == ["system", *["user", "assistant"] * 3]
    assert [message.text for message in tree.messages[1:5]] == ["How many?", "Twelve.", "Who left?", "One."]
    assert [message.trained for message in tree.messages] == [None] * 7
    assert tree.messages[5].context == "in Italy"
    context = tree_of(read("alpaca", row, train_history=False))
    assert [message.trained for message in context.messages] == [None, None, False, None, False, None, None]
    assert says(read("alpaca", {**ALPACA, "turns": HISTORY}, {"history": "turns"})) == [
        [*HISTORY[0], *HISTORY[1], "Name a lake.", "Lake Garda."]
    ]


@pytest.mark.parametrize("history", [None, [], ""])
def test_a_history_without_turns_changes_nothing(history: Any) -> None:
    assert read("alpaca", {**ALPACA, "history": history}) == read("alpaca", ALPACA)


def test_a_history_may_be_a_list_of_messages_and_precedes_completions_and_pairs() -> None:
    turns = chat("How many?", "Twelve.")
    found = tree_of(read("prompt-completion", {**COMPLETION, "history": turns}))
    assert [(message.text, message.trained) for message in found.messages] == [
        ("How many?", None),
        ("Twelve.", False),
        ("Name a lake.", None),
        ("Lake Garda.", None),
    ]
    assert says(read("preference-text", {**PAIR, "history": HISTORY[:1]})) == [
        ["How many?", "Twelve.", "Name a lake.", reply] for reply in ("Lake Garda.", "The Po.")
    ]


BAD_HISTORIES: dict[str, tuple[Any, str]] = {
    "text": ("How many?", "'history' is text, not a list of earlier turns"),
    "pairs of three": ([["a", "b", "c"]], r"history\[0\] is a list of 3, not a question and its reply"),
    "a number": ([["a", 1]], r"history\[0\]\[1\] is a number, not text"),
    "an empty question": ([["", "b"]], r"history\[0\] \(user\) is empty"),
    "messages that end with the user": (chat("a", "b", "c"), "'history' does not end with a reply"),
    "a mixture": ([["a", "b"], {"role": "user", "content": "c"}], r"history\[1\] is an object"),
}


@pytest.mark.parametrize(("history", "what"), BAD_HISTORIES.values(), ids=BAD_HISTORIES)
def test_a_history_of_another_form_is_refused(history: Any, what: str) -> None:
    with pytest.raises(DataError, match=what):
        read("alpaca", {**ALPACA, "history": history})


@given(any_json)
def test_any_history_is_read_or_refused(history: Any) -> None:
    try:
        assert says(read("alpaca", {**ALPACA, "history": history}))
    except DataError as error:
        assert error.what  # noqa: PT017 - any of them will do


def test_unread_columns_and_keys_are_counted_by_their_full_names(tmp_path: Path) -> None:
    rows = [
        {"messages": [{**turn, "id": 3, "note": ""} for turn in CHAT["messages"]], "topic": "lakes", "meta": {"n": 1}},
        {**CHAT, "topic": "", "meta": {}},
    ]
    pipeline = Pipeline(SourceConfig("data", str(tmp_path), "messages"))
    found = [[*pipeline.find_unread(SourceRow("f", row, 1.0))] for row in rows]
    assert found == [["topic", "meta", "messages[].id", "messages[].id"], []]


def test_replies_to_any_depth_have_one_name_and_renamed_keys_are_read() -> None:
    reply = {"message_id": "a", "role": "assistant", "text": "b", "emojis": {"+1": 1}}
    deep = {**TREE, "prompt": {**TREE["prompt"], "emojis": {"+1": 2}, "replies": [{**reply, "replies": [reply]}]}}
    names = [name for name, _, _ in find_unread(deep, contents_of("oasst", {}))]
    assert names == ["prompt.emojis"] * 3
    fields = {"messages": "dialog.turns", "role": "who", "content": "said"}
    row = {"dialog": {"turns": [{"who": "user", "said": "a", "role": "b"}], "date": "today"}}
    names = [name for name, _, _ in find_unread(row, contents_of("messages", fields))]
    assert names == ["dialog.date", "dialog.turns[].role"]


def test_what_is_ignored_is_not_read_even_if_the_reader_could() -> None:
    ignoring = open_reader("alpaca", {}, {}, ignore=["history", "system"])
    assert ignoring({**ALPACA, "history": HISTORY, "system": "a"}) == read("alpaca", ALPACA)
    masked = {"messages": [CHAT["messages"][0], {**CHAT["messages"][1], "weight": 0}]}
    assert tree_of(read("messages", masked)).messages[1].trained is False
    assert tree_of(open_reader("messages", {}, {}, ignore=["messages[].weight"])(masked)).messages[1].trained is None
    deep = {"prompt": {"x": 1, "replies": [{"x": 2, "text": "a", "replies": [{"x": 3}]}]}}
    assert without(deep, contents_of("oasst", {}), ["prompt.x"]) == {
        "prompt": {"replies": [{"text": "a", "replies": [{}]}]}
    }


@pytest.mark.parametrize("reader", READERS)
@settings(max_examples=15, deadline=None)
@given(st.data())
def test_what_is_unread_in_any_row_is_found_and_ignored(reader: str, data: st.DataObject) -> None:
    known = st.sampled_from([*READERS[reader].columns, "images", "a"])
    row = data.draw(st.dictionaries(known, any_json, max_size=4))
    contents = contents_of(reader, {})
    names = {name for name, _, _ in find_unread(row, contents)}
    assert not [*find_unread(without(row, contents, names), contents)]


MASKS: dict[str, tuple[dict[str, Any], bool | None]] = {
    "train false": ({"train": False}, False),
    "trainable 0": ({"trainable": 0}, False),
    "loss false": ({"loss": False}, False),
    "loss_mask 0": ({"loss_mask": 0}, False),
    "weight 0.0": ({"weight": 0.0}, False),
    "weight 1": ({"weight": 1}, True),
    "train true": ({"train": True}, True),
    "two that agree": ({"train": False, "weight": 0}, False),
    "null": ({"train": None}, None),
}


@pytest.mark.parametrize(("mask", "trained"), MASKS.values(), ids=MASKS)
def test_a_mask_of_a_reply_is_honoured_by_every_reader_of_turns(mask: dict[str, Any], trained: bool | None) -> None:
    rows = {
        "messages": {"messages": [chat("q")[0], {**chat("q", "a")[1], **mask}]},
        "sharegpt": {"conversations": [SHARED["conversations"][0], {**GPT, **mask}]},
        "prompt-completion": {"prompt": "q", "completion": [{**chat("q", "a")[1], **mask}]},
    }
    for reader, row in rows.items():
        assert tree_of(read(reader, row)).messages[1].trained is trained, reader


BAD_MASKS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "a half": ({}, {"weight": 0.5}, r"messages\[1\]: weight 0.5 is neither 0 nor 1"),
    "text": ({}, {"train": "no"}, "train 'no' is neither 0 nor 1"),
    "a list": ({}, {"loss_mask": [0, 1]}, "neither 0 nor 1"),
    "a contradiction": ({}, {"train": True, "weight": 0}, r"messages\[1\] has train true and weight false"),
    "a question": ({"train": True}, {}, r"messages\[0\] \(user\) has train true"),
}


@pytest.mark.parametrize(("question", "reply", "what"), BAD_MASKS.values(), ids=BAD_MASKS)
def test_a_mask_that_says_nothing_clear_is_refused(question: dict[str, Any], reply: dict[str, Any], what: str) -> None:
    first, second = chat("q", "a")
    with pytest.raises(DataError, match=what):
        read("messages", {"messages": [{**first, **question}, {**second, **reply}]})


def test_turns_with_different_masks_are_not_merged() -> None:
    turns = [SHARED["conversations"][0], GPT, {**GPT, "train": False}]
    with pytest.raises(DataError, match="one is trained, the other is not"):
        read("sharegpt", {"conversations": turns}, same_role="merge")
    merged = [turns[0], {**GPT, "train": False}, {**GPT, "train": False}]
    assert tree_of(read("sharegpt", {"conversations": merged}, same_role="merge")).messages[1].trained is False


def test_the_recipe_may_group_records_by_a_column(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", [{**DOLLY, "chat": 7}, {**DOLLY, "chat": "x"}, {**DOLLY, "chat": None}])
    first, second, third = read_source(SourceConfig("data", str(path), "dolly", group="chat"))
    assert [tree_of(found).group for found in (first, second) if isinstance(found, ReadTree)] == ["7", "x"]
    assert isinstance(third, DataError)
    assert "'chat' is null" in third.what


def test_a_mask_that_a_reader_cannot_honour_is_refused() -> None:
    out = {**chat("q", "a")[1], "train": False}
    with pytest.raises(DataError, match="'rejected' is not to be trained on by its mask"):
        read("preference", {"chosen": chat("q", "b"), "rejected": [chat("q")[0], out]})
    with pytest.raises(DataError, match="'chosen' is not to be trained on"):
        read("preference-sharegpt", {**PAIR_OF_TURNS, "chosen": {**GPT, "weight": 0}})
    sides = {"conversation_a": [chat("q")[0], out], "conversation_b": chat("q", "b")}
    with pytest.raises(DataError, match="'conversation_a' is not to be trained on"):
        read("arena", {**sides, "winner": "model_a"})
    prompt = [chat("q")[0], {**chat("q", "a")[1], "train": True}, chat("c")[0]]
    with pytest.raises(DataError, match="'prompt' or its history has a reply"):
        read("prompt-completion", {"prompt": prompt, "completion": "d"})
