"""Separate limits for inputs and replies: what is cut is counted, ends stay, and replies never lose their input."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.text.conversations import texts
from tests.text.tokens.test_truncate import assert_well_formed, threads
from tunesmith.errors import DataError
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.text.tokens.truncate import DroppedTree, truncate_input_and_replies
from tunesmith.text.tree import Message, Tree

Build = Callable[..., Renderer]
LONG = "What is the name of the cat that sat on the mat?"
replies = st.lists(st.tuples(texts, st.sampled_from([None, None, False])), min_size=1, max_size=4)


def branches(question: str, answers: list[tuple[str, bool | None]]) -> Tree:
    said = [Message("assistant", text, trained=trained) for text, trained in answers]
    return Tree((Message("user", question), *said), (-1, *[0] * len(said)), place="data.jsonl:7")


def cut(ids: list[int], limit: int) -> list[int]:
    return ids if len(ids) <= limit else [*ids[: limit - 1], ids[-1]]


def tokens(renderer: Renderer, tree: Tree) -> tuple[list[int], list[list[int]]]:
    """The input, and every reply."""
    (question, *answers) = tree.messages
    prompt = renderer.prompt([question])
    alone = [renderer.render(Tree.path([question, answer])).ids.tolist() for answer in answers]
    return prompt, [ids[len(prompt) :] for ids in alone]


@settings(max_examples=150, deadline=None)
@given(
    question=texts.filter(str.strip),
    answers=replies,
    input_limit=st.integers(1, 40),
    target_limit=st.integers(1, 40),
)
def test_cutting_keeps_beginnings_and_ends(
    question: str, answers: list[tuple[str, bool | None]], input_limit: int, target_limit: int, renderer: Build
) -> None:
    built, tree = renderer("t5-dolly", "prefixed"), branches(question, answers)
    rendered = built.render(tree)
    shorter = truncate_input_and_replies(rendered, input_limit, target_limit, "right")
    if all(trained is False for _, trained in answers):
        assert shorter == DroppedTree("no_target")
        return
    assert isinstance(shorter, TokenTree)
    prompt, said = tokens(built, tree)
    prompt, said = cut(prompt, input_limit), [cut(ids, target_limit) for ids in said]
    assert [ids for ids, _ in threads(shorter)] == [prompt + ids for ids in said]
    assert shorter.cut == len(rendered.ids) - len(shorter.ids)
    wanted = [ids for ids, (_, trained) in zip(said, answers, strict=True) if trained is not False]
    assert [shorter.ids[start:end].tolist() for start, end, *_ in shorter.spans.tolist()] == wanted
    assert_well_formed(shorter)


@settings(max_examples=100, deadline=None)
@given(answers=replies, limit=st.integers(1, 40))
def test_dropping_keeps_the_replies_that_fit(
    answers: list[tuple[str, bool | None]], limit: int, renderer: Build
) -> None:
    built, tree = renderer("t5-dolly", "prefixed"), branches("Why?", answers)
    rendered = built.render(tree)
    shorter = truncate_input_and_replies(rendered, 100, limit, "drop")
    prompt, said = tokens(built, tree)
    fit = [prompt + ids for ids in said if len(ids) <= limit]
    trained = [len(ids) <= limit and flag is not False for ids, (_, flag) in zip(said, answers, strict=True)]
    if not any(trained):
        assert isinstance(shorter, DroppedTree)
        return
    assert isinstance(shorter, TokenTree)
    assert [ids for ids, _ in threads(shorter)] == fit
    assert shorter.cut == len(rendered.ids) - len(shorter.ids)
    assert_well_formed(shorter)


def test_what_fits_comes_back_as_it_is(renderer: Build) -> None:
    tree = renderer("t5-dolly").render(branches(LONG, [("Tom.", None)]))
    start = int(tree.spans[0, 0])
    for policy in ("drop", "right", "error"):
        assert truncate_input_and_replies(tree, start, len(tree.ids) - start, policy) is tree
    assert truncate_input_and_replies(tree, start - 1, 99, "drop") == DroppedTree("too_long")
    assert truncate_input_and_replies(tree, start, 1, "drop") == DroppedTree("too_long")


@pytest.mark.parametrize(("limits", "said"), [((4, 99), "an input of "), ((99, 2), "a reply of ")])
def test_too_long_is_an_error_with_its_place_if_asked_for(limits: tuple[int, int], said: str, renderer: Build) -> None:
    tree = renderer("t5-dolly").render(branches(LONG, [("Tom is its name.", None)]))
    with pytest.raises(DataError, match=rf"data\.jsonl:7: {said}\d+ tokens; the limit is {min(limits)}"):
        truncate_input_and_replies(tree, *limits, "error", "data.jsonl:7")
