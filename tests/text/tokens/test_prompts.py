"""Trees of prompts: what is stored is the prompt of chat, and every unwritten reply has its reserved tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.text.conversations import HELLO, NAMES, WITH_SYSTEM, trees
from tunesmith.errors import DataError
from tunesmith.text.formats.format import UNWRITTEN_REPLY
from tunesmith.text.tokens.prompts import make_prompt_tree, prompt_ids, prompt_lengths, reserve_reply_tokens
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tokens.truncate import DroppedTree
from tunesmith.text.tree import Message, Tree
from tunesmith.verify.masks import find_mask_faults

Build = Callable[..., Renderer]
Which = Literal["last", "every"]
QUESTION, AGAIN = Message("user", "What is the name of the cat?"), Message("user", "And the dog?")
GOOD, BAD = Message("assistant", "The cat is Tom.", trained=True, rank=0), Message("assistant", "No.", rank=1)
BRANCHES = Tree((QUESTION, GOOD, AGAIN, GOOD, Message("user", "Why?"), BAD), (-1, 0, 1, 2, 1, 0), "here:1")


def marking(renderer: Renderer) -> Renderer:
    return Renderer(renderer.format, renderer.tokenizer, "marked")


def said(tree: Tree | None) -> list[tuple[str, ...]]:
    assert tree is not None
    return [tuple(tree.messages[index].text for index in path) for path in tree.threads()]


def test_last_asks_for_replies_to_the_last_messages_of_users() -> None:
    found = make_prompt_tree(BRANCHES, "last")
    start = (QUESTION.text, GOOD.text)
    assert said(found) == [(*start, AGAIN.text, "?"), (*start, "Why?", "?")]
    assert found is not None
    assert found.place == "here:1"


def test_every_asks_for_a_reply_to_every_message_of_a_user() -> None:
    found = make_prompt_tree(BRANCHES, "every")
    start = (QUESTION.text, GOOD.text)
    assert said(found) == [(QUESTION.text, "?"), (*start, AGAIN.text, "?"), (*start, "Why?", "?")]


def test_only_unwritten_replies_are_marked() -> None:
    found = make_prompt_tree(BRANCHES, "every")
    assert found is not None
    assert [message is UNWRITTEN_REPLY for message in found.messages] == [
        message.trained is True for message in found.messages
    ]


def test_a_tree_without_a_user_is_no_prompt() -> None:
    assert make_prompt_tree(Tree.path([Message("assistant", "A text.")]), "last") is None
    assert make_prompt_tree(Tree.path([Message("system", "Be brief.")]), "every") is None


@settings(max_examples=150, deadline=None)
@given(data=st.data(), name=st.sampled_from(NAMES), which=st.sampled_from(["last", "every"]))
def test_the_tokens_before_a_reply_are_the_prompt_of_chat(
    data: st.DataObject, name: str, which: Which, renderer: Build
) -> None:
    tree = make_prompt_tree(data.draw(trees(name)), which)
    if tree is None:
        return
    ours = marking(renderer(name))
    tokens = ours.render(tree)
    asked = [index for index, message in enumerate(tree.messages) if message is UNWRITTEN_REPLY]
    assert tokens.spans[:, 3].tolist() == asked
    for index, source, length in zip(asked, tokens.spans[:, 2].tolist(), prompt_lengths(tokens), strict=True):
        before = [tree.messages[place] for place in tree.ancestors(index)[:-1]]
        assert list(prompt_ids(tokens, source)) == ours.prompt(before)
        assert length == len(ours.prompt(before))


@pytest.mark.parametrize("name", ["oasst", "chatml", "tulu", "llama-2", "dolly"])
@pytest.mark.parametrize("which", ["last", "every"])
def test_masks_of_prompts_have_no_faults(name: str, which: Which, renderer: Build) -> None:
    ours = marking(renderer(name))
    tree = Tree((QUESTION, BAD), (-1, 0)) if name == "dolly" else BRANCHES
    asked = make_prompt_tree(tree, which)
    assert asked is not None
    assert find_mask_faults(ours, asked, ours.render(asked)) == []


@settings(max_examples=100, deadline=None)
@given(data=st.data(), name=st.sampled_from(NAMES), which=st.sampled_from(["last", "every"]))
def test_exactly_the_prompts_that_leave_enough_tokens_stay(
    data: st.DataObject, name: str, which: Which, renderer: Build
) -> None:
    tree = make_prompt_tree(data.draw(trees(name)), which)
    if tree is None:
        return
    tokens = marking(renderer(name)).render(tree)
    reply_tokens = data.draw(st.integers(1, 20))
    limit = data.draw(st.sampled_from(prompt_lengths(tokens))) + reply_tokens + data.draw(st.integers(-2, 2))
    expected = [
        prompt_ids(tokens, source)
        for source, length in zip(tokens.spans[:, 2].tolist(), prompt_lengths(tokens), strict=True)
        if length + reply_tokens <= limit
    ]
    found = reserve_reply_tokens(tokens, limit, reply_tokens, "drop")
    if isinstance(found, DroppedTree):
        assert not expected
        return
    assert [prompt_ids(found, source) for source in found.spans[:, 2].tolist()] == expected
    assert found.cut == len(tokens.ids) - len(found.ids)


def test_a_prompt_without_tokens_for_a_reply_is_an_error_where_that_is_wanted(renderer: Build) -> None:
    tree = make_prompt_tree(Tree.path(WITH_SYSTEM), "last")
    assert tree is not None
    tokens = marking(renderer("chatml")).render(tree)
    (length,) = prompt_lengths(tokens)
    assert reserve_reply_tokens(tokens, length + 5, 5, "error") is tokens
    with pytest.raises(
        DataError, match=rf"here:7: a prompt of {length} tokens and a reply of 5 exceed the limit of {length + 4}"
    ):
        reserve_reply_tokens(tokens, length + 4, 5, "error", "here:7")


def test_a_tree_without_an_unwritten_reply_is_no_prompt(renderer: Build) -> None:
    assert reserve_reply_tokens(marking(renderer("chatml")).render(Tree.path(HELLO)), 99, 5, "drop") == DroppedTree(
        "no_target"
    )
