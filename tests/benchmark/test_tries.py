"""Texts with common beginnings as one tree: every text can be read in it, and nothing is stored twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.benchmark.tries import ScoredRow, Trie, build_trie, shared_length

TEXTS = st.lists(st.lists(st.integers(0, 2), min_size=2, max_size=9).map(tuple), min_size=1, max_size=6)


def threads_of(trie: Trie) -> dict[int, list[int]]:
    """For every token of the tree the tokens from the root to it, ids."""
    tree, found = trie.tree, {}
    for index in range(len(tree.segments)):
        thread = tree.thread(index).tolist()
        for place, token in enumerate(thread):
            found[token] = [int(tree.ids[each]) for each in thread[: place + 1]]
    return found


@given(TEXTS, st.randoms())
def test_every_target_is_predicted_from_exactly_the_tokens_before_it(texts: list[tuple[int, ...]], random) -> None:
    rows = [ScoredRow(text, random.randint(1, len(text) - 1)) for text in texts]
    trie = build_trie(rows)
    before = threads_of(trie)
    for row, places in zip(rows, trie.places, strict=True):
        assert [trie.targets[place] for place in places] == list(row.ids[row.start :])
        for place, position in zip(places, range(row.start, len(row.ids)), strict=True):
            assert before[trie.sources[place]] == list(row.ids[:position])


@given(TEXTS)
def test_the_tree_holds_every_beginning_once_and_no_chain_of_only_children(texts: list[tuple[int, ...]]) -> None:
    trie = build_trie([ScoredRow(text, 1) for text in texts])
    beginnings = {text[:size] for text in texts for size in range(1, len(text))}
    assert len(trie.tree.ids) == len(beginnings)
    assert len(set(zip(trie.sources, trie.targets, strict=True))) == len(trie.targets)
    starts, ends, parents = trie.tree.segments[:, 0], trie.tree.segments[:, 1], trie.tree.segments[:, 2].tolist()
    assert (ends > starts).all()
    assert starts.tolist() == [0, *ends[:-1].tolist()]
    assert all(parent < index for index, parent in enumerate(parents))
    ended = {text[:-1] for text in texts}
    for parent in set(parents) - {-1}:
        path = tuple(trie.tree.ids[trie.tree.thread(parent)].tolist())
        assert parents.count(parent) > 1 or path in ended


def test_a_single_token_that_answers_is_predicted_and_not_read() -> None:
    trie = build_trie([ScoredRow((5, 6, 7), 2), ScoredRow((5, 6, 8), 2)])
    assert trie.tree.ids.tolist() == [5, 6]
    assert (trie.sources, trie.targets) == ((1, 1), (7, 8))


def test_a_text_without_a_token_to_predict_from_is_refused() -> None:
    with pytest.raises(ValueError, match="from token 0"):
        build_trie([ScoredRow((1, 2), 0)])


@given(st.lists(st.integers(0, 1), max_size=40), st.lists(st.integers(0, 1), max_size=40))
def test_the_common_beginning_is_found(one: list[int], other: list[int]) -> None:
    plain = 0
    while plain < min(len(one), len(other)) and one[plain] == other[plain]:
        plain += 1
    assert shared_length(one, other) == plain
    assert shared_length(one, [*one, *other]) == len(one)
