"""Filters of messages: what fails goes with all below it, what is left is a tree, and nothing goes uncounted."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.data.readers.filters import LabelBounds, MessageFilters, apply_filters
from tunesmith.data.readers.pruning import UNANSWERED, drop_reasons, prune
from tunesmith.data.readers.reader import Filtered, ReadTree
from tunesmith.text.tree import Message, Role, Tree


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """A tree whose roles alternate, in depth-first order."""
    parents, roles, path = [-1], ["user"], [0]
    for index in range(1, draw(st.integers(1, 14))):
        path = path[: draw(st.integers(1, len(path)))]
        parents.append(path[-1])
        roles.append("assistant" if roles[path[-1]] == "user" else "user")
        path.append(index)
    names: list[Role] = ["user" if role == "user" else "assistant" for role in roles]
    return Tree(tuple(Message(role, f"text {index}") for index, role in enumerate(names)), tuple(parents))


@settings(max_examples=200, deadline=None)
@given(trees(), st.data())
def test_what_stays_is_what_lies_on_the_way_to_an_answer_without_a_fault(tree: Tree, data: st.DataObject) -> None:
    own = data.draw(st.lists(st.sampled_from(["", "", "bad"]), min_size=len(tree.parents), max_size=len(tree.parents)))
    sound = [not any(own[above] for above in tree.ancestors(index)) for index in range(len(own))]
    stays = set()
    for index, message in enumerate(tree.messages):
        if sound[index] and message.role == "assistant":
            stays |= set(tree.ancestors(index))
    outcome = prune(tree, own)
    if not any(own):
        assert outcome == ReadTree(tree)
    elif not stays:
        assert outcome == Filtered("bad")
    else:
        assert isinstance(outcome, ReadTree)
        assert outcome.tree.messages == tuple(tree.messages[index] for index in sorted(stays))
        assert sum(outcome.dropped.values()) == len(tree.messages) - len(stays)
        assert outcome.dropped.get("bad", 0) == sum(not one for one in sound)
        for position, index in enumerate(sorted(stays)):
            above = [outcome.tree.messages[step].text for step in outcome.tree.ancestors(position)]
            assert above == [tree.messages[step].text for step in tree.ancestors(index)]


def test_an_answered_question_stays_though_another_answer_goes() -> None:
    assert drop_reasons([-1, 0, 0, 2], ["", "bad", "", ""], [False, True, True, False]) == ["", "bad", "", UNANSWERED]
    assert drop_reasons([-1, 0, 1], ["", "", ""], [False, True, False]) == ["", "", UNANSWERED]


def chat(*turns: tuple[Role, str], **more: Any) -> Tree:
    return Tree.path([Message(role, text, **more) for role, text in turns])


FOUR: tuple[tuple[Role, str], ...] = (("user", "Hi?"), ("assistant", "Hello!"), ("user", "Why?"), ("assistant", "So."))


@pytest.mark.parametrize(
    ("tree", "filters", "left", "reasons"),
    [
        (chat(*FOUR), MessageFilters(), 4, {}),
        (chat(*FOUR), MessageFilters(min_characters=3), 4, {}),
        (chat(*FOUR), MessageFilters(min_characters=4), 2, {"reply under 4 characters": 1, UNANSWERED: 1}),
        (chat(*FOUR), MessageFilters(min_characters=7), 0, {"reply under 7 characters": 1}),
        (
            chat(("user", "a"), ("assistant", "  b  ")),
            MessageFilters(min_characters=2),
            0,
            {"reply under 2 characters": 1},
        ),
        (chat(*FOUR), MessageFilters(max_characters=6), 4, {}),
        (chat(*FOUR), MessageFilters(max_characters=5), 0, {"over 5 characters": 1}),
        (chat(*FOUR, context="1234567890"), MessageFilters(max_characters=15), 0, {"over 15 characters": 1}),
        (chat(("system", "x" * 99), *FOUR), MessageFilters(max_characters=50), 0, {"over 50 characters": 1}),
        (chat(*FOUR), MessageFilters(max_turns=4), 4, {}),
        (chat(*FOUR), MessageFilters(max_turns=3), 2, {"over 3 turns": 1, UNANSWERED: 1}),
        (chat(("system", "s"), *FOUR), MessageFilters(max_turns=2), 3, {"over 2 turns": 2}),
        (chat(*FOUR), MessageFilters(max_turns=1), 0, {"over 1 turns": 1}),
        (chat(*FOUR, lang="de"), MessageFilters(languages=("en", "de")), 4, {}),
        (chat(*FOUR, lang="de"), MessageFilters(languages=("en",)), 0, {"language de": 1}),
        (chat(*FOUR), MessageFilters(languages=("en",)), 0, {"no language": 1}),
        (chat(*FOUR, labels={"quality": 0.5}), MessageFilters(labels=(LabelBounds("quality", 0.5, None),)), 4, {}),
        (
            chat(*FOUR, labels={"quality": 0.4}),
            MessageFilters(labels=(LabelBounds("quality", 0.5, 1),)),
            0,
            {"quality under 0.5": 1},
        ),
        (
            chat(*FOUR, labels={"toxicity": 0.4}),
            MessageFilters(labels=(LabelBounds("toxicity", None, 0.3),)),
            0,
            {"toxicity over 0.3": 1},
        ),
        (chat(*FOUR), MessageFilters(labels=(LabelBounds("quality", 0.5, None),)), 0, {"no label quality": 1}),
    ],
)
def test_every_filter_does_what_it_says(
    tree: Tree, filters: MessageFilters, left: int, reasons: dict[str, int]
) -> None:
    outcome = apply_filters(ReadTree(tree), filters)
    if left == 0:
        assert outcome == Filtered(next(iter(reasons)))
    elif not reasons:
        assert outcome == ReadTree(tree)
    else:
        assert isinstance(outcome, ReadTree)
        assert outcome.tree.messages == tree.messages[:left]
        assert outcome.dropped == Counter(reasons)


def test_the_system_needs_no_language_and_no_labels() -> None:
    tree = Tree.path(
        [
            Message("system", "Be kind."),
            *(Message(role, text, lang="en", labels={"quality": 1.0}) for role, text in FOUR),
        ]
    )
    whole = ReadTree(tree)
    assert apply_filters(whole, MessageFilters(languages=("en",), labels=(LabelBounds("quality", 0.9, None),))) == whole


def test_what_the_reader_dropped_is_still_counted() -> None:
    before = ReadTree(chat(*FOUR), {"deleted": 2, UNANSWERED: 1})
    assert apply_filters(before, MessageFilters(max_turns=9)) == before
    found = apply_filters(before, MessageFilters(max_turns=2))
    assert isinstance(found, ReadTree)
    assert found.dropped == {"deleted": 2, UNANSWERED: 1, "over 2 turns": 2}
    assert apply_filters(Filtered("x"), MessageFilters(max_turns=2)) == Filtered("x")
