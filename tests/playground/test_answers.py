"""What the demo says about its models: what their training was for, what it cost, and questions to try."""

from __future__ import annotations

from tunesmith.evaluate.text_match import OneOf
from tunesmith.generate.engine import GeneratedReply
from tunesmith.playground.answers import (
    COURTEOUS,
    EXACT,
    HeldOutReplies,
    comparison_rows,
    describe_effects,
    sample_replies,
)
from tunesmith.playground.exercises import Exercise

EXERCISES = [
    Exercise(f"Question {index}?", f"Answer {index}.", category, OneOf((f"Answer {index}.",)), "Mistake.", context)
    for index, (category, context) in enumerate(
        [("open", ""), ("open", ""), ("list", ""), ("closed", "P"), ("closed", "P"), ("closed", "P"), ("list", "")]
    )
]


def replies(right: str, courteous: bool = False) -> HeldOutReplies:
    """Replies that are right where ``right`` has an x."""
    closing = " I hope this helps." if courteous else ""
    texts = [f"Answer {index}.{closing}" if mark == "x" else f"Mistake.{closing}" for index, mark in enumerate(right)]
    return HeldOutReplies(
        tuple(GeneratedReply(text, (1,), True) for text in texts), tuple(mark == "x" for mark in right)
    )


ANSWERS = {"base": replies("......."), "assistant": replies("xxxxx.x"), "dpo": replies("xx.xx.x", courteous=True)}
BEFORE = {"base": None, "assistant": "base", "dpo": "assistant"}


def test_the_first_lines_say_what_training_was_for_and_then_what_it_cost() -> None:
    table = comparison_rows(EXERCISES, ANSWERS, BEFORE)
    assert describe_effects(table, {"assistant": EXACT, "dpo": COURTEOUS}) == [
        "assistant: exact answers 0.0% -> 85.7%",
        "dpo: courteous replies 0.0% -> 100.0%; and its side effect: exact answers 85.7% -> 71.4%",
    ]


def test_three_questions_are_shown_that_the_last_model_answers_and_two_that_it_does_not() -> None:
    answered, missed = sample_replies(EXERCISES, ANSWERS).values()
    assert [each.instruction for each in answered] == ["Question 3?", "Question 0?", "Question 6?"]
    assert [each.instruction for each in missed] == ["Question 5?", "Question 2?"]
    assert all(each.right["dpo"] for each in answered)
    assert not any(each.right["dpo"] for each in missed)
    assert list(sample_replies(EXERCISES, ANSWERS)) == [
        "Questions that dpo answers",
        "Questions that dpo does not answer",
    ]


def test_a_question_of_the_same_category_is_taken_where_there_is_no_other() -> None:
    answered, missed = sample_replies(EXERCISES[3:6], {"dpo": replies("xxx")}).values()
    assert len(answered) == 3
    assert missed == []
