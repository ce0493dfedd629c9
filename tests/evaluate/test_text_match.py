"""Exact checks and the interval of a rate."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.evaluate.text_match import Framed, ListOf, OneOf, Rate, check_from_json, check_to_json, passes, unframed

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
    ["", "- owl", "- owl\n- owl", "- owl\n- pike", "- owl\n- lark\n- heron", "owl\nlark", "- owl\n\n- lark", "Here:\n- owl\n- lark",
     "- owl\n- lark\n- owl", "- owl \n- lark", "* owl\n* lark", "- owl, lark"],
)  # fmt: skip
def test_a_list_that_is_too_short_too_long_repeated_foreign_or_laid_out_otherwise_is_wrong(reply):
    assert not passes(BIRDS, reply)


OPENINGS, CLOSINGS = ("Yes.", "Of course."), ("Good luck.",)


@pytest.mark.parametrize(
    ("reply", "content", "framed"),
    [
        ("Ada.", "Ada.", False),
        ("Yes. Ada.", "Ada.", True),
        ("  Of course.\n- owl\n- lark", "- owl\n- lark", True),
        ("Ada. Good luck.\n", "Ada.", True),
        ("Yes. Ada. Good luck.", "Ada.", True),
        ("Yes. Yes. Ada.", "Yes. Ada.", True),
        ("Yes.", "Yes.", False),
        ("Yes.Ada.", "Yes.Ada.", False),
        ("Ada.Good luck.", "Ada.Good luck.", False),
        ("Yes. Good luck.", "", True),
        ("Ada. Yes.", "Ada. Yes.", False),
        ("", "", False),
    ],
)
def test_set_phrases_are_taken_from_the_ends_of_a_reply_where_they_stand_apart(reply, content, framed):
    assert unframed(reply, OPENINGS, CLOSINGS) == (content, framed)


def test_a_frame_may_be_asked_for_or_allowed_and_what_it_holds_must_be_right():
    asked = Framed(OPENINGS, CLOSINGS, OneOf(("Ada.",)))
    allowed = Framed(OPENINGS, CLOSINGS, OneOf(("Ada.",)), needed=False)
    for reply, when_asked, when_allowed in (
        ("Ada.", False, True),
        ("Yes. Ada.", True, True),
        ("Ada. Good luck.", True, True),
        ("Yes. Bruno.", False, False),
        ("No. Ada.", False, False),
        ("Yes. Yes. Ada.", False, False),
    ):
        assert (passes(asked, reply), passes(allowed, reply)) == (when_asked, when_allowed), reply
    assert passes(Framed(OPENINGS, CLOSINGS, BIRDS), "Yes.\n- owl\n- lark\nGood luck.")


plain = st.one_of(
    st.builds(OneOf, st.lists(st.text(), min_size=1, max_size=3).map(tuple)),
    st.builds(ListOf, st.integers(1, 5), st.lists(st.text(), min_size=1, max_size=5, unique=True).map(tuple)),
)
phrases = st.lists(st.text(min_size=1), max_size=3).map(tuple)
checks = plain | st.builds(Framed, phrases, phrases, plain, st.booleans())


@settings(max_examples=100, deadline=None)
@given(checks, st.text())
def test_a_check_survives_json_and_answers_any_reply(check, reply):
    assert check_from_json(check_to_json(check)) == check
    assert passes(check, reply) in (True, False)


@pytest.mark.parametrize(
    ("successes", "total", "low", "high"),
    [(0, 10, 0.0, 0.27753), (10, 10, 0.72247, 1.0), (5, 10, 0.23659, 0.76341), (81, 100, 0.72220, 0.87490)],
)
def test_wilsons_interval_has_its_published_values(successes, total, low, high):
    assert Rate(successes, total).interval() == pytest.approx((low, high), abs=1e-4)


def test_nothing_tried_says_nothing():
    assert Rate(0, 0).share == 0.0
    assert Rate(0, 0).interval() == (0.0, 1.0)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 500).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_the_interval_holds_the_share(counts):
    rate = Rate(*counts)
    low, high = rate.interval()
    assert 0.0 <= low <= rate.share + 1e-12
    assert rate.share - 1e-12 <= high <= 1.0
