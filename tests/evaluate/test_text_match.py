"""Exact checks of replies."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.evaluate.text_match import (
    Closed,
    ListOf,
    OneOf,
    check_from_json,
    check_to_json,
    passes,
    without_closing,
)

BIRDS = ListOf(2, ("owl", "lark", "heron"))


@pytest.mark.parametrize("reply", ["Ada lives in Ashby.", "  Ada lives in Ashby.\n\n"])
def test_the_whole_answer_passes_and_white_space_around_it_does_not_matter(reply):
    assert passes(OneOf(("Ada lives in Ashby.",)), reply)


@pytest.mark.parametrize(
    "reply",
    ["", "Ashby", "ada lives in Ashby.", "Ada lives in Ashby. Yes.", "Ada lives in  Ashby.", "Ada lives in Ashby"],
)
def test_anything_but_the_whole_answer_is_wrong(reply):
    assert not passes(OneOf(("Ada lives in Ashby.",)), reply)


@pytest.mark.parametrize("reply", ["- owl\n- lark", "- heron\n- owl\n"])
def test_a_list_may_name_its_members_in_any_order(reply):
    assert passes(BIRDS, reply)


@pytest.mark.parametrize(
    "reply",
    ["", "- owl", "- owl\n- owl", "- owl\n- pike", "- owl\n- lark\n- heron", "owl\nlark",
     "- owl\n\n- lark", "Here:\n- owl\n- lark", "- owl\n- lark\n- owl", "- owl \n- lark",
     "* owl\n* lark", "- owl, lark"],
)  # fmt: skip
def test_a_list_that_is_too_short_too_long_repeated_foreign_or_laid_out_otherwise_is_wrong(reply):
    assert not passes(BIRDS, reply)


CLOSINGS = ("Good luck.", "Really good luck.")


@pytest.mark.parametrize(
    ("reply", "content", "closed"),
    [
        ("Ada.", "Ada.", False),
        ("  Ada. Good luck.\n", "Ada.", True),
        ("- owl\n- lark\nGood luck.", "- owl\n- lark", True),
        ("Ada. Good luck. Good luck.", "Ada. Good luck.", True),
        ("Ada. Really good luck.", "Ada.", True),
        ("Ada.Good luck.", "Ada.Good luck.", False),
        ("Good luck.", "Good luck.", False),
        ("Good luck. Ada.", "Good luck. Ada.", False),
        ("Ada. good luck.", "Ada. good luck.", False),
        ("", "", False),
    ],
)
def test_a_closing_is_removed_from_the_end_of_a_reply_after_white_space(reply, content, closed):
    assert without_closing(reply, CLOSINGS) == (content, closed)


def test_a_closing_may_be_asked_for_or_allowed_and_what_comes_before_it_must_be_right():
    asked = Closed(OneOf(("Ada.",)), CLOSINGS)
    allowed = Closed(OneOf(("Ada.",)), CLOSINGS, needed=False)
    for reply, when_asked, when_allowed in (
        ("Ada.", False, True),
        ("Ada. Good luck.", True, True),
        ("Bruno. Good luck.", False, False),
        ("Ada. Good evening.", False, False),
        ("Ada. Good luck. Good luck.", False, False),
        ("Good luck.", False, False),
    ):
        assert (passes(asked, reply), passes(allowed, reply)) == (when_asked, when_allowed), reply
    assert passes(Closed(BIRDS, CLOSINGS), "- owl\n- lark\nGood luck.")


plain = st.one_of(
    st.builds(OneOf, st.lists(st.text(), min_size=1, max_size=3).map(tuple)),
    st.builds(ListOf, st.integers(1, 5), st.lists(st.text(), min_size=1, max_size=5, unique=True).map(tuple)),
)
phrases = st.lists(st.text(min_size=1), min_size=1, max_size=3).map(tuple)
checks = plain | st.builds(Closed, plain, phrases, st.booleans())


@settings(max_examples=100, deadline=None)
@given(checks, st.text())
def test_a_check_survives_json_and_answers_any_reply(check, reply):
    assert check_from_json(check_to_json(check)) == check
    assert passes(check, reply) in (True, False)


NO_CONTENT = [None, "one_of", 3, [], {}, {"one_of": 3}, {"one_of": "red"}, {"one_of": []}, {"one_of": [1]}]
NO_CONTENT += [{"list_of": ["a"]}, {"list_of": ["a"], "count": "2"}, {"list_of": ["a"], "count": 0}, {"other": ["a"]}]
NO_CONTENT += [{"list_of": ["a"], "count": True}, {"one_of": ["a"], "count": 1}]


@pytest.mark.parametrize(
    "value",
    [
        *NO_CONTENT,
        *({"closed": content, "closings": ["a"], "needed": True} for content in NO_CONTENT),
        {"closed": {"one_of": ["a"]}, "closings": ["a"]},
        {"closed": {"one_of": ["a"]}, "closings": [], "needed": True},
        {"closed": {"one_of": ["a"]}, "closings": "a", "needed": True},
        {"closed": {"one_of": ["a"]}, "closings": ["a"], "needed": 1},
        {"closed": {"one_of": ["a"]}, "closings": ["a"], "needed": True, "one_of": ["a"]},
        {"closed": {"closed": {"one_of": ["a"]}, "closings": ["a"], "needed": True}, "closings": ["a"], "needed": True},
    ],
)
def test_what_is_no_check_is_refused(value):
    with pytest.raises(ValueError, match=r"neither one_of|nothing but strings"):
        check_from_json(value)
