"""Preference pairs in every form: the expected tree, the options, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from tests.data.outcomes import chat, read, says, tree_of, whole_tree_of
from tunesmith.data.readers.reader import Filtered, ReadTree
from tunesmith.data.readers.registry import open_reader
from tunesmith.errors import DataError
from tunesmith.text.tree import Message, Tree

USER, SYSTEM = {"role": "user", "content": "Q"}, {"role": "system", "content": "S"}
GOOD, BAD = {"role": "assistant", "content": "good"}, {"role": "assistant", "content": "bad"}
FORMS: dict[str, dict[str, Any]] = {
    "preference-text": {"prompt": "Q", "chosen": "good", "rejected": "bad"},
    "preference": {"chosen": [USER, GOOD], "rejected": [USER, BAD], "source": "x"},
    "preference-sharegpt": {
        "conversations": [{"from": "human", "value": "Q"}],
        "chosen": {"from": "gpt", "value": "good"},
        "rejected": {"from": "gpt", "value": "bad"},
    },
    "hh": {"chosen": "\n\nHuman: Q\n\nAssistant: good", "rejected": "\n\nHuman: Q\n\nAssistant: bad"},
    "arena": {
        "conversation_a": [USER, BAD],
        "conversation_b": [USER, GOOD],
        "winner": "model_b",
    },
    "alpacafarm": {"instruction": "Q", "output_1": "good", "output_2": "bad", "preference": 1},
    "shp": {"history": "Q", "human_ref_A": "bad", "human_ref_B": "good", "labels": 0},
}
SCORED = ("preference-text", "preference", "preference-sharegpt")


def pair(better: float | None = None, worse: float | None = None, *before: Message) -> Tree:
    replies = (Message("assistant", "good", rank=0, score=better), Message("assistant", "bad", rank=1, score=worse))
    prompt = before or (Message("user", "Q"),)
    return Tree((*prompt, *replies), (*range(-1, len(prompt) - 1), len(prompt) - 1, len(prompt) - 1))


@pytest.mark.parametrize("form", FORMS)
def test_a_pair_is_a_prompt_with_two_replies_the_chosen_one_first(form: str) -> None:
    assert whole_tree_of(read(form, FORMS[form])) == pair()


@pytest.mark.parametrize("form", FORMS)
def test_the_best_reply_alone_is_a_demonstration(form: str) -> None:
    best = read(form, FORMS[form], replies="best")
    assert isinstance(best, ReadTree)
    assert best.tree == Tree.path((Message("user", "Q"), Message("assistant", "good", rank=0)))
    assert best.dropped == {"not the best reply": 1}


def with_texts(form: str, chosen: str, rejected: str) -> dict[str, Any]:
    """The row with other replies."""
    row = dict(FORMS[form])
    if form == "preference":
        row |= {"chosen": [USER, {**GOOD, "content": chosen}], "rejected": [USER, {**BAD, "content": rejected}]}
    elif form == "preference-sharegpt":
        row |= {"chosen": {"from": "gpt", "value": chosen}, "rejected": {"from": "gpt", "value": rejected}}
    elif form == "arena":
        row |= {
            "conversation_b": [USER, {**GOOD, "content": chosen}],
            "conversation_a": [USER, {**BAD, "content": rejected}],
        }
    elif form == "hh":
        turns = "\n\nHuman: Q\n\nAssistant: "
        row |= {"chosen": turns + chosen, "rejected": turns + rejected}
    else:
        sides = {"shp": ("human_ref_B", "human_ref_A"), "alpacafarm": ("output_1", "output_2")}
        names = sides.get(form, ("chosen", "rejected"))
        row |= {names[0]: chosen, names[1]: rejected}
    return row


@pytest.mark.parametrize("form", FORMS)
def test_equal_sides_and_empty_sides_are_errors_or_filtered(form: str) -> None:
    with pytest.raises(DataError, match=r"^field '\w+' and field '\w+' are equal"):
        read(form, with_texts(form, "same", "same"))
    assert read(form, with_texts(form, "same", "same"), on_equal="drop") == Filtered("equal replies")
    for texts in ((" ", "bad"), ("good", "")):
        with pytest.raises(DataError, match=r"^field '\w+' is empty; fix the record, or set options.empty"):
            read(form, with_texts(form, *texts))
        assert read(form, with_texts(form, *texts), empty="drop") == Filtered("empty reply")


@pytest.mark.parametrize("form", FORMS)
def test_a_missing_side_is_an_error_that_names_it(form: str) -> None:
    for column in FORMS[form]:
        if column == "source":
            continue
        row = {key: value for key, value in FORMS[form].items() if key != column}
        with pytest.raises(DataError, match=f"field '{column}' is missing"):
            read(form, row)
        with pytest.raises(DataError, match=f"'?{column}'? is (null|None)"):
            read(form, {**row, column: None})


@pytest.mark.parametrize("form", SCORED)
def test_scores_and_margins_are_kept_as_scores(form: str) -> None:
    row = FORMS[form]
    assert whole_tree_of(read(form, {**row, "score_chosen": 9.0, "score_rejected": 7})) == pair(9.0, 7.0)
    assert whole_tree_of(read(form, {**row, "margin": 1.5})) == pair(1.5, 0.0)
    assert whole_tree_of(read(form, {**row, "score_chosen": 9, "score_rejected": 7, "margin": 2.0})) == pair(9.0, 7.0)
    assert whole_tree_of(read(form, {**row, "score_chosen": None, "score_rejected": None, "margin": None})) == pair()
    names = {"score_chosen": "metadata.better", "score_rejected": "metadata.worse"}
    assert whole_tree_of(read(form, {**row, "metadata": {"better": 2, "worse": 1}}, names)) == pair(2.0, 1.0)


@pytest.mark.parametrize("form", SCORED)
@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"score_chosen": 1, "score_rejected": 2}, "field 'chosen' has the score 1, below 2 of field 'rejected'"),
        ({"score_chosen": 1}, "field 'rejected' has no score, the other reply has one"),
        ({"score_rejected": 1}, "field 'chosen' has no score"),
        ({"score_chosen": "9", "score_rejected": 1}, "field 'score_chosen' is text, not a number"),
        ({"score_chosen": True, "score_rejected": 1}, "field 'score_chosen' is true or false, not a number"),
        ({"margin": -0.5}, "the margin -0.5 is below 0"),
        ({"margin": float("inf")}, "field 'margin' is not a finite number"),
        ({"margin": 1, "score_chosen": 9, "score_rejected": 7}, "the margin 1 is not the difference of the scores, 2"),
    ],
)
def test_scores_that_contradict_the_columns_are_refused(form: str, more: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        read(form, {**FORMS[form], **more})


@pytest.mark.parametrize("more", [{"score_chosen": 5, "score_rejected": 5.0}, {"margin": 0}])
def test_equal_scores_keep_the_order_of_the_columns_or_are_filtered(more: dict[str, Any]) -> None:
    row = {**FORMS["preference-text"], **more}
    assert [message.rank for message in tree_of(read("preference-text", row)).messages] == [None, 0, 1]
    assert read("preference-text", row, ties="drop") == Filtered("equal scores")
    with pytest.raises(DataError, match="both replies have the score"):
        read("preference-text", row, ties="error")


def test_a_system_prompt_comes_first() -> None:
    system, user = Message("system", "S"), Message("user", "Q")
    assert whole_tree_of(read("preference-text", {**FORMS["preference-text"], "system": "S"})) == pair(
        None, None, system, user
    )
    assert whole_tree_of(read("preference-text", {**FORMS["preference-text"], "system": ""})) == pair()
    row = {"chosen": [SYSTEM, USER, GOOD], "rejected": [SYSTEM, USER, BAD]}
    assert whole_tree_of(read("preference", row)) == pair(None, None, system, user)


@pytest.mark.parametrize("context", ["A passage.", "", None])
def test_a_passage_stays_with_the_question_that_refers_to_it(context: str | None) -> None:
    row = {**FORMS["preference-text"], "context": context}
    assert whole_tree_of(read("preference-text", row)) == pair(None, None, Message("user", "Q", context=context or ""))


def test_other_column_names_are_for_fields() -> None:
    row = {"question": "Q", "response_j": "good", "response_k": "bad"}
    fields = {"prompt": "question", "chosen": "response_j", "rejected": "response_k"}
    assert whole_tree_of(read("preference-text", row, fields)) == pair()


def test_a_prompt_of_its_own_comes_before_both_lists_and_a_text_is_passed_over() -> None:
    assert whole_tree_of(read("preference", {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]})) == pair()
    assert whole_tree_of(read("preference", {**FORMS["preference"], "prompt": "Q"})) == pair()


@pytest.mark.parametrize(
    "prompt", ["Q", " Q\n", "S", "System: S\n\nHuman: Q\n\nAssistant:", "<|system|>S<|user|>Q<|assistant|>", "", None]
)
def test_a_text_prompt_may_repeat_a_turn_or_all_of_them(prompt: str | None) -> None:
    row = {"prompt": prompt, "chosen": [SYSTEM, USER, GOOD], "rejected": [SYSTEM, USER, BAD]}
    assert tree_of(read("preference", row)).messages[1].text == "Q"


@pytest.mark.parametrize("prompt", ["Another question", "good", "Q S", "S and no question"])
def test_a_text_prompt_that_the_conversations_do_not_repeat_is_refused(prompt: str) -> None:
    row = {"prompt": prompt, "chosen": [SYSTEM, USER, GOOD], "rejected": [SYSTEM, USER, BAD]}
    with pytest.raises(DataError) as error:
        read("preference", row)
    assert str(error.value) == (
        f"field 'prompt' is {prompt!r}, but field 'chosen' begins with 'Q'; "
        "fix the record, or leave the field out: ignore: [prompt] in the data source"
    )
    ignored = open_reader("preference", {}, {}, ignore=("prompt",))(row)
    assert tree_of(ignored).messages[1].text == "Q"


def test_texts_are_stripped_and_empty_messages_dropped_only_where_asked() -> None:
    blank = {"role": "system", "content": " "}
    row = {
        "chosen": [blank, {**USER, "content": " Q\n"}, {**GOOD, "content": "good "}],
        "rejected": [{**USER, "content": "Q"}, {**BAD, "content": "\nbad"}],
    }
    assert whole_tree_of(read("preference", row, clean=True)) == pair()
    with pytest.raises(DataError, match="'chosen' has 2 messages before its reply, 'rejected' 1"):
        read("preference", row)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"chosen": [USER, GOOD], "rejected": [USER]}, "field 'rejected' does not end with the assistant"),
        ({"chosen": [GOOD], "rejected": [BAD]}, "the prompt does not end with the user"),
        (
            {"chosen": [USER, GOOD], "rejected": [{**USER, "content": "R"}, BAD]},
            r"chosen\[0\] and rejected\[0\] differ before the reply",
        ),
        (
            {"chosen": [{**SYSTEM, "role": "user"}, USER, GOOD], "rejected": [SYSTEM, USER, BAD]},
            r"chosen\[0\] and rejected\[0\] differ",
        ),
        ({"chosen": [USER, GOOD], "rejected": [SYSTEM, BAD]}, r"chosen\[0\] and rejected\[0\] differ"),
        ({"chosen": [USER, GOOD], "rejected": [SYSTEM, USER, BAD]}, "'chosen' has 1 messages before"),
        ({"chosen": "good", "rejected": [USER, BAD]}, "field 'chosen' is text, not a list"),
        ({"chosen": [], "rejected": [USER, BAD]}, "field 'chosen' is empty"),
        ({"chosen": [{**USER, "content": ""}, GOOD], "rejected": [{**USER, "content": ""}, BAD]}, "prompt is empty"),
        ({"chosen": [USER, {"role": "robot", "content": "x"}], "rejected": [USER, BAD]}, r"chosen\[1\]: role 'robot'"),
    ],
)
def test_sides_that_do_not_answer_the_same_prompt_are_refused(row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read("preference", row)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"chosen": {"from": "human", "value": "x"}}, "field 'chosen' is a turn of the user, not of the assistant"),
        ({"chosen": "x"}, "chosen is text, not an object with from and value"),
        ({"chosen": {"from": "gpt"}}, "chosen.value is null, not text"),
        ({"conversations": [{"from": "gpt", "value": "x"}]}, "field 'conversations' does not end with the user"),
        ({"conversations": []}, "field 'conversations' is empty"),
    ],
)
def test_a_wrong_pair_in_sharegpts_form_is_named(more: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read("preference-sharegpt", {**FORMS["preference-sharegpt"], **more})


def transcript(*texts: str) -> str:
    return "".join(f"\n\n{('Human', 'Assistant')[index % 2]}: {text}" for index, text in enumerate(texts))


def hh(chosen: tuple[str, ...], rejected: tuple[str, ...], **options: Any) -> Any:
    return read("hh", {"chosen": transcript(*chosen), "rejected": transcript(*rejected)}, **options)


def test_transcripts_are_compared_where_they_part() -> None:
    assert says(hh(("q", "a", "r", "b"), ("q", "a", "r", "c"))) == [["q", "a", "r", "b"], ["q", "a", "r", "c"]]
    early = hh(("q", "a", "r", "b"), ("q", "x", "y", "z", "w", "v"))
    assert says(early) == [["q", "a"], ["q", "x"]]
    assert early.dropped == {"after the compared reply": 6}
    assert hh(("q", "a", "r", "b"), ("q", "x"), replies="best").dropped == {
        "not the best reply": 1,
        "after the compared reply": 2,
    }


@pytest.mark.parametrize(
    ("chosen", "rejected", "reason"),
    [
        (("q", "a", "r", "b"), ("q", "a"), "one transcript begins the other"),
        (("q", "a"), ("r", "a"), "transcripts part before a reply"),
        (("q", "a", "r", "b"), ("q", "a", "s", "b"), "transcripts part before a reply"),
    ],
)
def test_transcripts_that_compare_no_replies_are_filtered(
    chosen: tuple[str, ...], rejected: tuple[str, ...], reason: str
) -> None:
    assert hh(chosen, rejected) == Filtered(reason)


def test_a_transcript_without_a_question_or_with_two_is_filtered() -> None:
    row = {"chosen": "\n\nAssistant: a", "rejected": "\n\nAssistant: b"}
    assert read("hh", row) == Filtered("reply without a question")
    row = {"chosen": "\n\nHuman: Q\n\nAssistant: a", "rejected": "\n\nHuman: Q\n\nHuman: b"}
    assert read("hh", row) == Filtered("transcripts part before a reply")
    with pytest.raises(DataError, match="field 'chosen' is empty"):
        read("hh", {"chosen": "\n\nHuman: ", "rejected": "\n\nHuman: "}, clean=True)


def test_an_empty_turn_before_the_reply_is_an_error_or_filtered_or_cleaned() -> None:
    sides = ("q", "", "r", "b"), ("q", "", "r", "c")
    with pytest.raises(DataError, match=r"turn 1 \(assistant\) of the prompt is empty"):
        hh(*sides)
    assert hh(*sides, empty="drop") == Filtered("empty turn")
    assert says(hh(*sides, clean=True)) == [["q", "r", "b"], ["q", "r", "c"]]


@pytest.mark.parametrize("text", ["", "Hello", "Human Q\n\nAssistant: a", "x\n\nHuman: Q\n\nAssistant: a"])
def test_a_text_that_is_no_transcript_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="field 'chosen' is not a transcript"):
        read("hh", {**FORMS["hh"], "chosen": text})


def test_a_mark_counts_only_at_the_beginning_of_a_paragraph() -> None:
    chosen = "\n\nHuman: Say Human: or\nAssistant: x\n\nAssistant: good\n\nWell."
    assert says(read("hh", {"chosen": chosen, "rejected": chosen + "!"}))[0] == [
        "Say Human: or\nAssistant: x",
        "good\n\nWell.",
    ]


def test_the_space_behind_a_mark_may_be_missing() -> None:
    row = {"chosen": "\n\nHuman:Q\n\nAssistant:good", "rejected": "\n\nHuman:Q\n\nAssistant:  bad "}
    assert says(read("hh", row)) == [["Q", "good"], ["Q", " bad "]]


def test_upvotes_are_scores() -> None:
    row = {**FORMS["shp"], "score_A": 3, "score_B": 12}
    assert whole_tree_of(read("shp", row)) == pair(12.0, 3.0)
    swapped = {"history": "Q", "human_ref_A": "good", "human_ref_B": "bad", "labels": 1}
    assert whole_tree_of(read("shp", {**swapped, "score_A": 12, "score_B": 3})) == pair(12.0, 3.0)
    with pytest.raises(DataError, match="field 'human_ref_B' has the score 3, below 12 of field 'human_ref_A'"):
        read("shp", {**row, "score_A": 12, "score_B": 3})
    for label in (2, "1", True, [1], None):
        with pytest.raises(DataError, match="field 'labels' is"):
            read("shp", {**row, "labels": label})


def test_an_arena_row_of_ties_or_several_turns_is_filtered() -> None:
    row = FORMS["arena"]
    assert (
        read("arena", {**row, "winner": "tie"}) == read("arena", {**row, "winner": "tie (bothbad)"}) == Filtered("tie")
    )
    more = {side: [*row[side], USER, GOOD] for side in ("conversation_a", "conversation_b")}
    assert read("arena", {**row, **more}) == Filtered("several turns")
    steered = {side: [SYSTEM, *row[side]] for side in more}
    assert says(read("arena", {**row, **steered})) == [["S", "Q", "good"], ["S", "Q", "bad"]]


def test_the_input_of_alpacafarm_is_the_passage_of_its_instruction() -> None:
    tree = tree_of(read("alpacafarm", {**FORMS["alpacafarm"], "input": "A passage.", "preference": 2}))
    assert [message.context for message in tree.messages] == ["A passage.", "", ""]
    assert [message.text for message in tree.messages] == ["Q", "bad", "good"]


WHOLE = {
    "prompt": chat("Name a fruit."),
    "chosen": chat("Name a fruit.", "A banana."),
    "rejected": chat("Name a fruit.", "A chair."),
}
EXPECTED = [["Name a fruit.", "A banana."], ["Name a fruit.", "A chair."]]
SYSTEM_TURN = {"role": "system", "content": "Be brief."}


def test_a_prompt_that_both_conversations_repeat_is_given_once() -> None:
    assert says(read("preference", WHOLE)) == EXPECTED
    replies_alone = {**WHOLE, "chosen": WHOLE["chosen"][1:], "rejected": WHOLE["rejected"][1:]}
    assert says(read("preference", replies_alone)) == EXPECTED
    one_whole = {**WHOLE, "chosen": WHOLE["chosen"][1:]}
    assert says(read("preference", one_whole)) == EXPECTED


def test_a_system_message_of_the_prompt_need_not_be_repeated() -> None:
    row = {**WHOLE, "prompt": [SYSTEM_TURN, *WHOLE["prompt"]]}
    assert says(read("preference", row)) == [["Be brief.", *path] for path in EXPECTED]


def test_a_conversation_that_begins_with_another_prompt_is_refused() -> None:
    with pytest.raises(DataError, match="'rejected' begins with another prompt"):
        read("preference", {**WHOLE, "rejected": chat("Name a chair.", "A chair.")})


def test_a_text_prompt_is_the_question_of_replies_that_have_none() -> None:
    row = {"prompt": "Name a fruit.", "chosen": WHOLE["chosen"][1:], "rejected": WHOLE["rejected"][1:]}
    assert says(read("preference", row)) == EXPECTED
    assert says(read("preference", {**WHOLE, "prompt": "Name a fruit."})) == EXPECTED


def test_replies_that_begin_with_the_prompt_are_an_error_unless_an_option_decides() -> None:
    prompt = "Name a fruit that is yellow."
    row = {"prompt": prompt, "chosen": f"{prompt}\nA banana.", "rejected": f" {prompt} A chair."}
    with pytest.raises(DataError, match=r"begin with the prompt.*options\.prompt_again"):
        read("preference-text", row)
    assert says(read("preference-text", row, prompt_again="cut")) == [[prompt, "A banana."], [prompt, "A chair."]]
    assert says(read("preference-text", row, prompt_again="keep"))[0][1] == row["chosen"]
    short = {"prompt": "Hello", "chosen": "Hello there.", "rejected": "Hello?"}
    assert says(read("preference-text", short)) == [["Hello", "Hello there."], ["Hello", "Hello?"]]
