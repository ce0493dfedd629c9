"""What readers of preferences must refuse, and readers of trees whose messages have rows of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.data.shapes import MISSING, GroupShape, Row, Shape, changed

QUESTION = {"role": "user", "content": "Name a river."}
SIDES: dict[str, Any] = {
    "chosen": [QUESTION, {"role": "assistant", "content": "The Douro."}],
    "rejected": [QUESTION, {"role": "assistant", "content": "A mountain."}],
}
PAIR = {"prompt": "Name a river.", "chosen": "The Douro.", "rejected": "A mountain."}
SHARED: dict[str, Any] = {
    "conversations": [{"from": "human", "value": "Name a river."}],
    "chosen": {"from": "gpt", "value": "The Douro."},
    "rejected": {"from": "gpt", "value": "A mountain."},
}
DIALOGUES = {
    "chosen": "\n\nHuman: Name a river.\n\nAssistant: The Douro.",
    "rejected": "\n\nHuman: Name a river.\n\nAssistant: A mountain.",
}
UPVOTED: dict[str, Any] = {
    **{"history": "Name a river.", "human_ref_A": "The Douro.", "human_ref_B": "A mountain."},
    **{"labels": 1, "score_A": 5, "score_B": 2},
}
RATED: dict[str, Any] = {
    "instruction": "Name a river.",
    "completions": [
        {"response": "The Douro.", "overall_score": 9, "annotations": {"honesty": {"Rating": "5"}}},
        {"response": "A mountain.", "overall_score": 2, "annotations": {"honesty": {"Rating": "1"}}},
    ],
}
RANKED: dict[str, Any] = {
    "prompt": "\n\nHuman: Name a river.\n\nAssistant: ",
    "answers": [{"answer": "The Douro.", "rank": 1}, {"answer": "A mountain.", "rank": 2}],
}
VOTED: dict[str, Any] = {
    "question": "Name a river.",
    "answers": [{"text": "The Douro.", "pm_score": 5}, {"text": "A mountain.", "pm_score": 2}],
}


FOUGHT: dict[str, Any] = {
    "conversation_a": SIDES["chosen"],
    "conversation_b": SIDES["rejected"],
    "winner": "model_a",
    "turn": 1,
}
JUDGED: dict[str, Any] = {
    **{"instruction": "Name a river.", "input": "", "output_1": "The Douro.", "output_2": "A mountain."},
    **{"preference": 1},
}


def scores(row: Row) -> dict[str, tuple[Row, str]]:
    """Scores that contradict the columns, or are no numbers."""
    wrong: dict[str, tuple[Mapping[str, Any], str]] = {
        "swapped": ({"score_chosen": 1, "score_rejected": 2}, "has the score 1, below 2"),
        "one only": ({"score_chosen": 1}, "has no score, the other reply has one"),
        "the other only": ({"score_rejected": 1, "score_chosen": None}, "has no score, the other reply has one"),
        "a margin below zero": ({"margin": -1}, "the margin -1 is below 0"),
        "another margin": ({"score_chosen": 3, "score_rejected": 2, "margin": 5}, "is not the difference"),
        "text": ({"score_chosen": "3", "score_rejected": "2"}, "'score_chosen' is text, not a number"),
        "true": ({"score_chosen": True, "score_rejected": 1}, "'score_chosen' is true or false, not a number"),
        "a list": ({"score_chosen": [1], "score_rejected": 1}, "'score_chosen' is a list, not a number"),
        "too large": ({"score_chosen": 1e301, "score_rejected": 1}, "not a finite number of a usual size"),
        "a margin of text": ({"margin": "1"}, "'margin' is text, not a number"),
    }
    return {f"scores: {name}": ({**row, **more}, says) for name, (more, says) in wrong.items()}


def prompts(*turns: Mapping[str, Any]) -> dict[str, Any]:
    """Both sides after a prompt of these turns."""
    return {side: [*turns, SIDES[side][1]] for side in SIDES}


PREFERENCES: dict[str, Shape] = {
    "preference": Shape(
        SIDES,
        (("chosen", 1, "content"), ("rejected", 1, "content")),
        lists=(("chosen",), ("rejected",)),
        special={
            **scores(SIDES),
            "equal": ({**SIDES, "rejected": SIDES["chosen"]}, "are equal"),
            "another question": (changed(SIDES, ("rejected", 0, "content"), "Why?"), "differ before the reply"),
            "another role": (changed(SIDES, ("rejected", 0, "role"), "system"), "differ before the reply"),
            "a longer prompt": ({**SIDES, "chosen": [QUESTION, *SIDES["chosen"]]}, "messages before its reply"),
            "a side that asks": ({**SIDES, "chosen": [QUESTION]}, "'chosen' does not end with the assistant"),
            "an unknown role": (changed(SIDES, ("chosen", 1, "role"), "gpt"), "role 'gpt' is unknown"),
            "no question": (prompts(), "the prompt does not end with the user"),
            "an empty question": (prompts({"role": "user", "content": " "}), "the prompt is empty"),
            "a prompt that ends with the assistant": (
                prompts(QUESTION, SIDES["chosen"][1]),
                "does not end with the user",
            ),
        },
        good={
            "scores": {**SIDES, "score_chosen": 2, "score_rejected": 1.5, "margin": 0.5},
            "a prompt": {**SIDES, "prompt": "Name a river."},
        },
    ),
    "preference-text": Shape(
        PAIR,
        (("prompt",), ("chosen",), ("rejected",)),
        special={
            **scores(PAIR),
            "equal": ({**PAIR, "rejected": "The Douro."}, "are equal"),
            "no side": ({"prompt": "a"}, "the fields 'chosen' and 'rejected' are missing"),
            "a context that is no text": ({**PAIR, "context": ["a"]}, "'context' is a list, not text"),
        },
        good={
            "a system message": {**PAIR, "system": "Be brief."},
            "a context": {**PAIR, "context": "A passage."},
            "a margin": {**PAIR, "margin": 2},
        },
    ),
    "preference-sharegpt": Shape(
        SHARED,
        (("conversations", 0, "value"), ("chosen", "value"), ("rejected", "value")),
        lists=(("conversations",),),
        special={
            **scores(SHARED),
            "equal": ({**SHARED, "rejected": SHARED["chosen"]}, "are equal"),
            "a side of the user": (changed(SHARED, ("chosen", "from"), "human"), "is a turn of the user"),
            "a side that is text": ({**SHARED, "chosen": "a"}, "chosen is text"),
            "a side that is a list": ({**SHARED, "chosen": [SHARED["chosen"]]}, "chosen is a list"),
            "no side": (changed(SHARED, ("rejected",), MISSING), "field 'rejected' is missing"),
            "an answer last": (
                {**SHARED, "conversations": [*SHARED["conversations"], SHARED["chosen"]]},
                "does not end with the user",
            ),
        },
    ),
    "hh": Shape(
        DIALOGUES,
        typed=(("chosen",), ("rejected",)),
        special={
            "equal": ({**DIALOGUES, "rejected": DIALOGUES["chosen"]}, "are equal"),
            "empty": ({**DIALOGUES, "chosen": ""}, "field 'chosen' is not a transcript"),
            "no marks": ({**DIALOGUES, "rejected": "A mountain."}, "field 'rejected' is not a transcript"),
            "something before the marks": ({**DIALOGUES, "chosen": f"a{DIALOGUES['chosen']}"}, "is not a transcript"),
            "an empty reply": ({**DIALOGUES, "chosen": "\n\nHuman: Name a river.\n\nAssistant: "}, "is empty"),
        },
    ),
    "shp": Shape(
        UPVOTED,
        (("history",), ("human_ref_A",), ("human_ref_B",)),
        numbers=(),
        special={
            "equal": ({**UPVOTED, "human_ref_B": "The Douro."}, "are equal"),
            "swapped": ({**UPVOTED, "labels": 0}, "has the score 2, below 5"),
            "one score": (changed(UPVOTED, ("score_B",), MISSING), "has no score"),
            "a score of text": ({**UPVOTED, "score_A": "5"}, "'score_A' is text, not a number"),
            **{
                f"the label {label!r}": ({**UPVOTED, "labels": label}, "field 'labels' is")
                for label in (2, -1, 0.5, True, "1", None, [1])
            },
            "no label": (changed(UPVOTED, ("labels",), MISSING), "field 'labels' is missing"),
        },
    ),
    "ultrafeedback": Shape(
        RATED,
        (("instruction",), ("completions", 0, "response"), ("completions", 1, "response")),
        lists=(("completions",),),
        special={
            "equal": (changed(RATED, ("completions", 1, "response"), "The Douro."), "are equal"),
            "no annotations": (changed(RATED, ("completions", 0, "annotations"), MISSING), "annotations is null"),
            "annotations that are a list": (
                changed(RATED, ("completions", 0, "annotations"), []),
                "annotations is a list",
            ),
            "no rating": (changed(RATED, ("completions", 0, "annotations", "honesty"), None), "has no rating"),
            **{
                f"the rating {rating!r}": (
                    changed(RATED, ("completions", 0, "annotations", "honesty", "Rating"), rating),
                    ".Rating is",
                )
                for rating in ("five", "", True, [5], "1e3", "-1")
            },
        },
    ),
    "nectar": Shape(
        RANKED,
        (("answers", 0, "answer"), ("answers", 1, "answer")),
        typed=(("prompt",),),
        numbers=(("answers", 0, "rank"),),
        lists=(("answers",),),
        special={
            "equal": (changed(RANKED, ("answers", 1, "answer"), "The Douro."), "are equal"),
            "no marks": ({**RANKED, "prompt": "Name a river."}, "is not a transcript"),
            "an answer last": ({**RANKED, "prompt": DIALOGUES["chosen"]}, "does not end with the user"),
        },
    ),
    "stackexchange": Shape(
        VOTED,
        (("question",), ("answers", 0, "text"), ("answers", 1, "text")),
        numbers=(("answers", 0, "pm_score"), ("answers", 1, "pm_score")),
        lists=(("answers",),),
        special={"equal": (changed(VOTED, ("answers", 1, "text"), "The Douro."), "are equal")},
    ),
    "arena": Shape(
        FOUGHT,
        (("conversation_a", 1, "content"), ("conversation_b", 1, "content")),
        lists=(("conversation_a",), ("conversation_b",)),
        special={
            "equal": (changed(FOUGHT, ("conversation_b", 1, "content"), "The Douro."), "are equal"),
            "another question": (changed(FOUGHT, ("conversation_b", 0, "content"), "Why?"), "different prompts"),
            "a side that asks": ({**FOUGHT, "conversation_b": [QUESTION]}, "'conversation_b' does not end with"),
            "an unknown role": (changed(FOUGHT, ("conversation_a", 1, "role"), "gpt"), "role 'gpt' is unknown"),
            "an unknown winner": ({**FOUGHT, "winner": "gpt-4"}, "field 'winner' is 'gpt-4'"),
            "a winner that is a number": ({**FOUGHT, "winner": 1}, "field 'winner' is 1"),
            "no winner": (changed(FOUGHT, ("winner",), MISSING), "field 'winner' is missing"),
        },
        good={"the other side": {**FOUGHT, "winner": "model_b"}},
    ),
    "alpacafarm": Shape(
        JUDGED,
        (("instruction",), ("output_1",), ("output_2",)),
        optional=(("input",),),
        special={
            "equal": ({**JUDGED, "output_2": "The Douro."}, "are equal"),
            "no preference": (changed(JUDGED, ("preference",), MISSING), "field 'preference' is missing"),
            **{
                f"the preference {value!r}": ({**JUDGED, "preference": value}, "field 'preference' is")
                for value in (0, 3, 1.5, True, "1", None)
            },
        },
    ),
    "prompts": Shape(
        {"instruction": "Name a river."},
        special={
            "nothing": ({"text": "Name a river."}, "there is no prompt"),
            "null": ({"prompt": None}, "there is no prompt"),
            "an empty prompt": ({"prompt": " "}, "field 'prompt' is empty"),
            "a number": ({"instruction": 12}, "field 'instruction' is a number, not a list of messages"),
            "replies only": ({"messages": SIDES["chosen"][1:]}, "does not end with the user"),
            "a system message only": ({"messages": [{"role": "system", "content": "a"}]}, "does not end with the user"),
            "a transcript": (DIALOGUES, "field 'chosen' is text, not a list of messages"),
            "an empty list": ({"conversation": []}, "field 'conversation' is empty"),
        },
        good={
            "a text": {"prompt": "Name a river."},
            "messages": {"messages": [QUESTION]},
            "a pair": SIDES,
            "the prompt of a pair": {**PAIR, "messages": 5},
        },
        targets="all",
    ),
}


def said(number: int, above: int | None, **more: Any) -> dict[str, Any]:
    """One message of the tree ``t``, in a row of its own."""
    given = {"message_id": f"m{number}", "parent_id": None if above is None else f"m{above}", "message_tree_id": "t"}
    role = "prompter" if number % 2 == 0 else "assistant"
    return {
        **given,
        "text": f"Text {number}.",
        "role": role,
        "tree_state": "ready_for_export",
        "review_result": True,
        **more,
    }


def rated(number: int, **more: Any) -> dict[str, Any]:
    values = dict.fromkeys(("helpfulness", "correctness", "coherence", "complexity"), number)
    return {"prompt": "Name a river.", "response": f"Reply {number}.", **values, **more}


FLAT = (said(0, None), said(1, 0), said(2, 1), said(3, 2))
STEERED = (rated(1), rated(4), rated(2))


def with_row(rows: Sequence[Row], index: int, **more: Any) -> list[Row]:
    """The rows with other values in one of them; MISSING takes a field away."""
    row = {name: value for name, value in {**rows[index], **more}.items() if value is not MISSING}
    return [*rows[:index], row, *rows[index + 1 :]]


GROUPS: dict[str, GroupShape] = {
    "oasst-messages": GroupShape(
        FLAT,
        {
            "an id twice": (with_row(FLAT, 3, message_id="m1"), 3, "'m1' occurs twice"),
            "its own parent": (with_row(FLAT, 2, parent_id="m2"), 2, "answers itself"),
            "a circle of two": (with_row(FLAT, 2, parent_id="m3"), 2, "answers itself"),
            "a parent that is not there": (with_row(FLAT, 2, parent_id="m9"), 2, "answers 'm9', which does not exist"),
            "a parent that is a number": (with_row(FLAT, 2, parent_id=1), 2, "answers 1, which does not exist"),
            "two roots": (with_row(FLAT, 2, parent_id=None), 2, "are both roots of one tree"),
            "no root": (with_row(FLAT, 0, parent_id="m3"), 0, "answers itself"),
            "no id": (with_row(FLAT, 2, message_id=MISSING), 2, "'message_id' is missing"),
            "an id that is a number": (with_row(FLAT, 2, message_id=2), 2, "'message_id' is a number"),
            "no tree": (with_row(FLAT, 3, message_tree_id=MISSING), 3, "'message_tree_id' is missing"),
            "a tree that is a number": (with_row(FLAT, 3, message_tree_id=5), 3, "'message_tree_id' is a number"),
            "an empty tree": (with_row(FLAT, 3, message_tree_id=""), 3, "'message_tree_id' is empty"),
            "an unknown role": (with_row(FLAT, 3, role="bot"), 3, "has the role 'bot'"),
            "a role that is a list": (with_row(FLAT, 3, role=["assistant"]), 3, "has the role ['assistant']"),
            "no text": (with_row(FLAT, 1, text=None), 1, "the text of message 'm1' is null"),
            "an empty text": (with_row(FLAT, 1, text=" "), 1, "the text of message 'm1' is empty"),
            "a text that is a number": (with_row(FLAT, 1, text=5), 1, "the text of message 'm1' is a number"),
            "a rank below zero": (with_row(FLAT, 1, rank=-1), 1, "the rank of message 'm1' is -1"),
            "a language that is a list": (with_row(FLAT, 1, lang=["en"]), 1, "the language of message 'm1'"),
            "labels of two lengths": (
                with_row(FLAT, 1, labels={"name": ["a"], "value": []}),
                1,
                "1 names and 0 values",
            ),
        },
        {"children before parents": FLAT[::-1], "a deep one": [said(n, n - 1 if n else None) for n in range(300)]},
    ),
    "helpsteer": GroupShape(
        STEERED,
        {
            "no response": (with_row(STEERED, 1, response=MISSING), 1, "field 'response' is missing"),
            "a response that is a number": (with_row(STEERED, 1, response=1), 1, "field 'response' is a number"),
            "an empty response": (with_row(STEERED, 0, response=""), 0, "is empty"),
            "equal responses": (with_row(STEERED, 1, response="Reply 1."), 0, "are equal"),
            "a rating of text": (with_row(STEERED, 2, coherence="2"), 2, "field 'coherence' is text, not a number"),
            "no rating": (with_row(STEERED, 2, complexity=None), 2, "field 'complexity' is null"),
            "no prompt": (with_row(STEERED, 1, prompt=MISSING), 1, "field 'prompt' is missing"),
            "a prompt that is a list": (with_row(STEERED, 1, prompt=["a"]), 1, "field 'prompt' is a list"),
            "a blank prompt": ([rated(1, prompt=" "), rated(2, prompt=" ")], 0, "field 'prompt' is empty"),
        },
        {"two prompts": [*STEERED, rated(1, prompt="Why?"), rated(2, prompt="Why?")]},
    ),
}
