"""Ranked replies: which are compared, which of their tokens are targets, and which can be compared after truncation."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from tests.text.small_tokenizers import byte_level, write_tokenizer
from tunesmith.text.formats.registry import build_format
from tunesmith.text.targets import ranked_replies
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.ranking import drop_incomparable_replies
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.text.tokens.truncate import truncate
from tunesmith.text.tree import Message, Tree


@pytest.fixture(params=["oasst", "tulu", "dolly"])
def renderer(request: pytest.FixtureRequest, tmp_path: Path) -> Renderer:
    end = "<|endoftext|>"
    write_tokenizer(tmp_path, byte_level(), bos=end, eos=end, unk=end)
    format = build_format(request.param, {})
    return Renderer(format, Tokenizer.load(str(tmp_path), format.controls), "ranked")


def reply(text: str, rank: int | None, score: float | None = None) -> Message:
    return Message("assistant", text, rank=rank, score=score)


def question(*replies: Message) -> Tree:
    return Tree((Message("user", "Which?"), *replies), (-1, *[0] * len(replies)))


def contents(tree: TokenTree, message: int) -> list[int]:
    return [token for start, end, _, own, _ in tree.spans.tolist() if own == message for token in tree.ids[start:end]]


def test_replies_with_different_ranks_are_compared_and_only_these() -> None:
    tree = question(reply("a", 1, 2.0), reply("b", 0), reply("c", None), reply("d", 1))
    assert [found[:3] for found in ranked_replies(tree)] == [(1, 0, 1), (2, 0, 0), (4, 0, 1)]
    assert next(found.score for found in ranked_replies(tree)) == 2.0
    assert math.isnan(ranked_replies(tree)[1].score)
    assert not ranked_replies(question(reply("a", 0), reply("b", 0)))
    assert not ranked_replies(question(reply("a", 0)))


def test_the_tokens_of_ranked_replies_are_trained_and_no_others(renderer: Renderer) -> None:
    tree = renderer.render(question(reply("one", 0, 3.0), reply("two two", 1, 1.0), reply("not ranked", None)))
    assert tree.replies.tolist() == [[1, 0, 0], [2, 0, 1]]
    assert tree.scores.tolist() == [3.0, 1.0]
    assert set(tree.spans[:, 3].tolist()) == {1, 2}
    for number, text in ((1, "one"), (2, "two two")):
        assert renderer.parse(contents(tree, number)).text == text
        assert renderer.parse(contents(tree, number)).stopped


def test_a_ranked_reply_that_is_answered_is_compared_by_its_own_tokens(tmp_path: Path) -> None:
    end = "<|endoftext|>"
    write_tokenizer(tmp_path, byte_level(), bos=end, eos=end, unk=end)
    format = build_format("oasst", {})
    renderer = Renderer(format, Tokenizer.load(str(tmp_path), format.controls), "ranked")
    alone = question(reply("one", 0), reply("two", 1))
    answered = Tree((*alone.messages[:2], Message("user", "More?"), alone.messages[2]), (-1, 0, 1, 0))
    assert contents(renderer.render(answered), 1) == contents(renderer.render(alone), 1)


def test_two_rankings_in_one_tree_are_two_groups(renderer: Renderer) -> None:
    if renderer.format.name == "dolly":
        pytest.skip("single turns only")
    tree = Tree(
        (
            Message("user", "Which?"),
            reply("one", 0),
            Message("user", "And?"),
            reply("three", 1),
            reply("four", 0),
            reply("two", 1),
        ),
        (-1, 0, 1, 2, 2, 0),
    )
    assert renderer.render(tree).replies.tolist() == [[1, 0, 0], [3, 2, 1], [4, 2, 0], [5, 0, 1]]


def test_what_is_cut_to_the_same_beginning_is_not_compared(renderer: Renderer) -> None:
    tree = renderer.render(question(reply("same same one", 0), reply("same same two", 1), reply("other", 2)))
    prompt = int(tree.segments[0, 1])
    whole = drop_incomparable_replies(tree)
    assert whole is tree
    cut = truncate(tree, prompt + 3, "right")
    assert isinstance(cut, TokenTree)
    left = drop_incomparable_replies(cut)
    assert left is None  # one reply is left of the three, and nothing to compare it with


def test_a_reply_that_lost_all_its_tokens_is_not_compared(renderer: Renderer) -> None:
    tree = renderer.render(question(reply("a", 0), reply("b", 1), reply("c", 2)))
    gone = TokenTree(tree.ids, tree.segments, tree.spans[tree.spans[:, 3] != 3], 3, 0, tree.replies, tree.scores)
    left = drop_incomparable_replies(gone)
    assert left is not None
    assert left.replies[:, 0].tolist() == [1, 2]
    assert np.isin(left.spans[:, 3], [1, 2]).all()


def test_equal_replies_of_one_rank_stay(renderer: Renderer) -> None:
    tree = renderer.render(question(reply("a", 0), reply("b", 1), reply("b", 1)))
    assert drop_incomparable_replies(tree) is tree
    assert drop_incomparable_replies(renderer.render(question(reply("a", 0), reply("a", 1)))) is None
