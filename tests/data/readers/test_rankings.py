"""Ranked lists in every form: the expected tree, ties, equal texts, the pair that is drawn, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.outcomes import group, read, says, tree_of
from tunesmith.data.readers.reader import Filtered, ReadTree
from tunesmith.errors import DataError
from tunesmith.text.tree import Message, Tree

REPLIES = (("middle", 3.0), ("best", 4.0), ("worst", 1.0), ("also middle", 3.0))


def aspects(rating: float) -> dict[str, Any]:
    """Four ratings with that mean, as texts."""
    names = ("instruction_following", "honesty", "truthfulness", "helpfulness")
    return {name: {"Rating": str(int(rating)), "Rationale": "r"} for name in names}


def row(form: str, replies: tuple[tuple[str, float], ...] = REPLIES, prompt: str = "Q") -> Any:
    """The same replies in the form of each reader; a score of 4 is the best."""
    if form == "ultrafeedback":
        rated = [{"response": text, "annotations": aspects(score), "overall_score": score} for text, score in replies]
        return {"instruction": prompt, "completions": rated}
    if form == "nectar":
        ranked = [{"answer": text, "rank": 5 - score} for text, score in replies]
        return {"prompt": f"\n\nHuman: {prompt}\n\nAssistant: ", "answers": ranked}
    if form == "stackexchange":
        return {"question": prompt, "answers": [{"text": text, "pm_score": score} for text, score in replies]}
    names = ("helpfulness", "correctness", "coherence", "complexity")
    rated = [{"prompt": prompt, "response": text, **dict.fromkeys(names, score)} for text, score in replies]
    return group([{**item, "verbosity": 4 - item["helpfulness"]} for item in rated])


FORMS = ("ultrafeedback", "nectar", "stackexchange", "helpsteer")
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "ultrafeedback": [{"score": "mean"}, {"score": "overall"}],
    "helpsteer": [{"score": "mean"}, {"score": "helpfulness"}],
}
EVERY = [(form, options) for form in FORMS for options in OPTIONS.get(form, [{}])]


@pytest.mark.parametrize(("form", "options"), EVERY)
def test_replies_stand_best_first_and_ties_share_a_rank(form: str, options: dict[str, Any]) -> None:
    expected = [("best", 0, 4.0), ("middle", 1, 3.0), ("also middle", 1, 3.0), ("worst", 2, 1.0)]
    tree = tree_of(read(form, row(form), **options))
    assert tree.messages[0] == Message("user", "Q")
    assert tree.parents == (-1, 0, 0, 0, 0)
    found = [(message.text, message.rank, message.score) for message in tree.messages[1:]]
    assert found == [(text, rank, None if form == "nectar" else score) for text, rank, score in expected]


@pytest.mark.parametrize("form", FORMS)
def test_the_best_reply_alone_is_a_demonstration(form: str) -> None:
    outcome = read(form, row(form), replies="best")
    assert says(outcome) == [["Q", "best"]]
    assert isinstance(outcome, ReadTree)
    assert outcome.dropped == {"not the best reply": 3}
    assert says(read(form, row(form, REPLIES[:1]), replies="best")) == [["Q", "middle"]]


@pytest.mark.parametrize("form", FORMS)
def test_a_pair_is_the_best_and_a_worse_one_drawn_by_the_seed(form: str) -> None:
    drawn = set()
    for seed in range(40):
        outcome = read(form, row(form), replies="pair", seed=seed)
        assert outcome == read(form, row(form), replies="pair", seed=seed)
        assert isinstance(outcome, ReadTree)
        assert outcome.dropped == {"not of the pair": 2}
        best, worse = outcome.tree.messages[1:]
        assert (best.text, best.rank, worse.rank) == ("best", 0, 1)
        drawn.add(worse.text)
    assert drawn == {"middle", "also middle", "worst"}
    outcomes = [read(form, row(form, prompt=f"Q{number}"), replies="pair") for number in range(40)]
    others = {tree_of(outcome).messages[-1].text for outcome in outcomes}
    assert others == drawn, "every record draws for itself"


@pytest.mark.parametrize("form", FORMS)
def test_a_pair_never_has_two_replies_that_tie(form: str) -> None:
    replies = (("a", 4.0), ("b", 4.0), ("c", 1.0))
    for seed in range(20):
        assert says(read(form, row(form, replies), replies="pair", seed=seed)) == [["Q", "a"], ["Q", "c"]]


@pytest.mark.parametrize("form", FORMS)
def test_ties_can_be_dropped_or_refused(form: str) -> None:
    outcome = read(form, row(form), ties="drop")
    assert says(outcome) == [["Q", "best"], ["Q", "middle"], ["Q", "worst"]]
    assert isinstance(outcome, ReadTree)
    assert outcome.dropped == {"tied reply": 1}
    with pytest.raises(DataError, match=r"tie; fix the record, or set options.ties to drop"):
        read(form, row(form), ties="error")
    assert read(form, row(form, (("a", 2.0), ("b", 2.0)))) == Filtered("all replies tie")
    assert read(form, row(form, (("a", 2.0), ("b", 2.0))), ties="drop") == Filtered("fewer than two replies")


@pytest.mark.parametrize("form", FORMS)
def test_equal_and_empty_replies_are_errors_or_dropped(form: str) -> None:
    twice = (("a", 2.0), ("a", 4.0), ("b", 3.0))
    with pytest.raises(DataError, match=r"are equal; fix the record, or set options.on_equal to drop"):
        read(form, row(form, twice))
    outcome = read(form, row(form, twice), on_equal="drop")
    assert isinstance(outcome, ReadTree)
    assert outcome.dropped == {"equal reply": 1}
    assert [(message.text, message.rank) for message in outcome.tree.messages[1:]] == [("a", 0), ("b", 1)]
    blank = (("a", 2.0), (" ", 4.0), ("b", 3.0))
    with pytest.raises(DataError, match=r"is empty; fix the record, or set options.empty to drop"):
        read(form, row(form, blank))
    assert says(read(form, row(form, blank), empty="drop")) == [["Q", "b"], ["Q", "a"]]
    assert read(form, row(form, blank[1:2]), empty="drop") == Filtered("no replies left")


@pytest.mark.parametrize("form", FORMS)
def test_one_reply_cannot_be_preferred(form: str) -> None:
    assert read(form, row(form, REPLIES[:1])) == Filtered("fewer than two replies")


@pytest.mark.parametrize("form", FORMS)
def test_an_empty_prompt_is_refused(form: str) -> None:
    with pytest.raises(DataError, match="is empty"):
        read(form, row(form, prompt=" "))


@given(st.lists(st.tuples(st.text(min_size=1), st.integers(0, 4)), max_size=6))
def test_a_better_reply_never_has_a_worse_rank(replies: list[tuple[str, int]]) -> None:
    value = {"question": "Q", "answers": [{"text": text, "pm_score": score} for text, score in replies]}
    if not replies:
        return
    outcome = read("stackexchange", value, empty="drop", on_equal="drop")
    if isinstance(outcome, Filtered):
        return
    best: dict[str, int] = {}
    for text, score in replies:
        best[text] = max(score, best.get(text, 0))
    messages = tree_of(outcome).messages[1:]
    assert {message.text: message.score for message in messages} == {t: s for t, s in best.items() if t.strip()}
    ranks = {score: rank for rank, score in enumerate(sorted({m.score or 0 for m in messages}, reverse=True))}
    assert [message.rank for message in messages] == sorted(ranks[message.score or 0] for message in messages)


def completion(**annotations: Any) -> dict[str, Any]:
    return {"response": "a", "annotations": {name: {"Rating": rating} for name, rating in annotations.items()}}


def ultrafeedback(*completions: Any) -> dict[str, Any]:
    return {"instruction": "Q", "completions": list(completions)}


def test_the_mean_is_that_of_the_aspects_that_were_rated() -> None:
    rated = completion(helpfulness="4", honesty="N/A", truthfulness="5", instruction_following=None)
    other = {**completion(helpfulness="5"), "response": "b"}
    tree = tree_of(read("ultrafeedback", ultrafeedback(rated, other)))
    assert [(message.text, message.score) for message in tree.messages[1:]] == [("b", 5.0), ("a", 4.5)]


@pytest.mark.parametrize(
    ("wrong", "options", "message"),
    [
        (completion(), {}, r"completions\[0\].annotations has no rating"),
        (completion(honesty="N/A"), {}, r"completions\[0\].annotations has no rating"),
        (completion(honesty="good"), {}, r"completions\[0\].annotations.honesty.Rating is text, not a number"),
        (completion(honesty="9" * 400), {}, r"annotations.honesty.Rating is text, not a number"),
        (completion(honesty=[4]), {}, r"annotations.honesty.Rating is a list, not a number"),
        ({"response": "a"}, {}, r"completions\[0\].annotations is null, not an object"),
        ({"annotations": aspects(4)}, {}, r"completions\[0\].response is null, not text"),
        (completion(honesty="4"), {"score": "overall"}, r"completions\[0\] has no overall_score; set options.score"),
        ("a", {}, r"completions\[0\] is text, not an object"),
    ],
)
def test_a_wrong_completion_is_named(wrong: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read("ultrafeedback", ultrafeedback(wrong), **options)


@pytest.mark.parametrize(
    ("form", "value", "message"),
    [
        ("ultrafeedback", {"completions": []}, "field 'instruction' is missing"),
        ("ultrafeedback", {"instruction": "Q", "completions": []}, "field 'completions' is empty"),
        ("ultrafeedback", {"instruction": "Q"}, "field 'completions' is missing"),
        ("nectar", {"prompt": "Q", "answers": [{}]}, "field 'prompt' is not a transcript"),
        ("nectar", {"prompt": "\n\nHuman: Q\n\nAssistant: ", "answers": "a"}, "field 'answers' is text, not a list"),
        ("nectar", {"prompt": "\n\nHuman: Q\n\nAssistant: ", "answers": [{}]}, r"answers\[0\].rank is null, not a num"),
        ("nectar", {"prompt": "\n\nHuman: Q\n\nAssistant: x", "answers": [{}]}, "'prompt' does not end with the user"),
        (
            "stackexchange",
            {"question": "Q", "answers": [{"text": "a"}]},
            r"answers\[0\].pm_score is null, not a number",
        ),
        ("stackexchange", {"question": "Q", "answers": [{"pm_score": 1}]}, r"answers\[0\].text is null, not text"),
    ],
)
def test_a_wrong_list_is_named(form: str, value: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(form, value)


def test_a_conversation_may_come_before_the_answers() -> None:
    prompt = "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:"
    outcome = read("nectar", {"prompt": prompt, "answers": [{"answer": "y", "rank": 2.0}, {"answer": "x", "rank": 1}]})
    assert tree_of(outcome) == Tree(
        (
            *(Message("user", "a"), Message("assistant", "b"), Message("user", "c")),
            *(Message("assistant", "x", rank=0), Message("assistant", "y", rank=1)),
        ),
        (-1, 0, 1, 2, 2),
    )


def test_the_most_helpful_response_is_the_best_one() -> None:
    """Also where a longer one scores lower: a well-known conversion sorted the other way round."""
    outcome = read("helpsteer", row("helpsteer", (("poor", 0.0), ("rich", 4.0))))
    assert [message.text for message in tree_of(outcome).messages] == ["Q", "rich", "poor"]


def test_helpfulness_alone_may_decide() -> None:
    ratings = {"helpfulness": (1, 2), "correctness": (4, 0), "coherence": (4, 0), "complexity": (4, 0)}
    rows = group([{"prompt": "Q", "response": "ab"[n], **{k: v[n] for k, v in ratings.items()}} for n in range(2)])
    assert says(read("helpsteer", rows)) == [["Q", "a"], ["Q", "b"]]
    assert says(read("helpsteer", rows, score="helpfulness")) == [["Q", "b"], ["Q", "a"]]


def test_a_wrong_rating_is_told_at_its_own_row() -> None:
    rows = row("helpsteer")
    rows.rows[2]["coherence"] = "4"
    with pytest.raises(DataError) as caught:
        read("helpsteer", rows)
    assert caught.value.where == "f.jsonl:3"
    assert caught.value.what == "field 'coherence' is text, not a number"
    rows.rows[2]["coherence"] = 4
    del rows.rows[1]["response"]
    with pytest.raises(DataError, match="field 'response' is missing") as caught:
        read("helpsteer", rows)
    assert caught.value.where == "f.jsonl:2"
