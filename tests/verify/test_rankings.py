"""Verification of rankings: correct renderings pass in every format, every planted fault is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.text.conversations import NAMES
from tests.text.ranked_trees import ranked_trees
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.text.tree import Message, Tree
from tunesmith.verify.masks import find_mask_faults
from tunesmith.verify.rankings import expected_rankings, find_ranking_faults

Build = Callable[..., Renderer]
PAIR = Tree(
    (
        Message("user", "Which?"),
        Message("assistant", "the cat", rank=1, score=-1.5),
        Message("assistant", "the dog", rank=0, score=3.0),
        Message("assistant", "no", rank=1),
    ),
    (-1, 0, 0, 0),
)


def ranked(build: Build, name: str) -> Renderer:
    known = build(name, "t5_like" if name == "t5-dolly" else "byte_level")
    return Renderer(known.format, known.tokenizer, "ranked")


@settings(max_examples=200, deadline=None)
@given(data=st.data(), name=st.sampled_from(NAMES))
def test_every_rendering_of_ranked_replies_passes(renderer: Build, data: st.DataObject, name: str) -> None:
    built = ranked(renderer, name)
    tree = data.draw(ranked_trees(single=not built.format.multi_turn))
    tokens = built.render(tree)
    assert find_ranking_faults(built, tree, tokens) is None
    assert find_mask_faults(built, tree, tokens) == []
    assert tokens.replies[:, 0].tolist() == sorted(expected_rankings(tree))
    assert set(tokens.spans[:, 3].tolist()) == set(tokens.replies[:, 0].tolist())


def exchanged_ranks(tokens: TokenTree) -> TokenTree:
    replies = tokens.replies.copy()
    replies[:2, 2] = replies[1::-1, 2]
    return replace(tokens, replies=replies)


def exchanged_contents(tokens: TokenTree) -> TokenTree:
    """Chosen and rejected exchanged: the tokens of each are labelled as the other's."""
    spans = tokens.spans.copy()
    spans[:2, 3] = spans[1::-1, 3]
    return replace(tokens, spans=spans)


def without_the_end(tokens: TokenTree) -> TokenTree:
    spans = tokens.spans.copy()
    spans[:, 1] -= 1
    return replace(tokens, spans=spans)


def one_early(tokens: TokenTree) -> TokenTree:
    """The mask of a collator that forgot the shift."""
    spans = tokens.spans.copy()
    spans[:, :3] -= 1
    return replace(tokens, spans=spans)


def another_group(tokens: TokenTree) -> TokenTree:
    replies = tokens.replies.copy()
    replies[2, 1] = 1
    return replace(tokens, replies=replies)


def one_is_missing(tokens: TokenTree) -> TokenTree:
    return replace(tokens, replies=tokens.replies[1:], scores=tokens.scores[1:])


def all_are_missing(tokens: TokenTree) -> TokenTree:
    return replace(tokens, replies=tokens.replies[:0], scores=tokens.scores[:0], spans=tokens.spans[:0])


def scores_in_another_order(tokens: TokenTree) -> TokenTree:
    return replace(tokens, scores=tokens.scores[::-1].copy())


FAULTS: dict[Callable[[TokenTree], TokenTree], str] = {
    exchanged_ranks: "is compared as rank 0 among the replies to 0; it has rank 1",
    exchanged_contents: "the tokens of reply 1 decode to 'the dog', not to 'the cat'",
    without_the_end: "does not end with an end token",
    one_early: "does not end with an end token",
    another_group: "reply 3 is compared as rank 1 among the replies to 1",
    one_is_missing: "reply 1 and a sibling have different ranks, but the reply is not compared",
    all_are_missing: "reply 1 and a sibling have different ranks, but the reply is not compared",
    scores_in_another_order: "reply 1 has the score nan, but -1.5 in the data",
}


@pytest.mark.parametrize("name", ["oasst", "tulu", "dolly", "chatml"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(renderer: Build, name: str, fault: Callable[[TokenTree], TokenTree]) -> None:
    built = ranked(renderer, name)
    tokens = built.render(PAIR)
    assert find_ranking_faults(built, PAIR, tokens) is None
    found = find_ranking_faults(built, PAIR, fault(tokens))
    assert found is not None
    assert FAULTS[fault] in found
    assert "ranking" in {each.property for each in find_mask_faults(built, PAIR, fault(tokens))}


def test_a_message_that_is_compared_without_a_rank_is_found(renderer: Build) -> None:
    built = ranked(renderer, "oasst")
    tokens = built.render(PAIR)
    tie = replace(PAIR, messages=tuple(replace(each, rank=0) if each.rank else each for each in PAIR.messages))
    found = find_ranking_faults(built, tie, tokens)
    assert found == "message 1 is compared, but no sibling has another rank"


def test_ties_are_no_fault_because_preparation_drops_them(renderer: Build) -> None:
    built = ranked(renderer, "oasst")
    tie = Tree((Message("user", "?"), *(Message("assistant", text, rank=0) for text in "ab")), (-1, 0, 0))
    tokens = built.render(tie)
    assert not len(tokens.replies)
    assert find_mask_faults(built, tie, tokens) == []
