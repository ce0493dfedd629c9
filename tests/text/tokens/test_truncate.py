"""Truncation: nothing is cut without being counted, and nothing without a target stays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.text.conversations import HELLO, LONGER, NAMES, trees
from tests.text.tokens.test_render import trained
from tunesmith.errors import DataError
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.text.tokens.truncate import DroppedTree, truncate
from tunesmith.text.tree import Message, Tree

Build = Callable[..., Renderer]


def threads(tree: TokenTree) -> list[tuple[list[int], list[tuple[int, int]]]]:
    """Ids and (target, source) positions of every thread."""
    paths = [tree.thread(end) for end in tree.ends()]
    return [(tree.ids[path].tolist(), trained(tree, path)) for path in paths]


def assert_well_formed(tree: TokenTree) -> None:
    starts, ends, parents = tree.segments.T.tolist()
    assert [0, *ends] == [*starts, len(tree.ids)]
    assert all(end > start for start, end in zip(starts, ends, strict=True))
    assert all(parents.count(index) != 1 for index in range(len(parents)))
    assert all(parent < index for index, parent in enumerate(parents))
    for start, end, source, *_ in tree.spans.tolist():
        assert 0 <= source < start < end <= len(tree.ids)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), name=st.sampled_from(NAMES))
def test_dropping_keeps_exactly_the_threads_that_fit(data: st.DataObject, name: str, renderer: Build) -> None:
    tree = renderer(name).render(data.draw(trees(name)))
    lengths = sorted({len(ids) for ids, _ in threads(tree)})
    limit = max(1, data.draw(st.sampled_from(lengths)) + data.draw(st.integers(-2, 2)))
    shorter = truncate(tree, limit, "drop")
    expected = [thread for thread in threads(tree) if len(thread[0]) <= limit]
    if isinstance(shorter, DroppedTree):
        assert not any(targets for _, targets in expected)
        assert shorter.reason == ("too_long" if len(tree.spans) else "no_target")
        return
    assert threads(shorter) == expected
    assert shorter.threads == len(expected)
    assert shorter.cut == len(tree.ids) - len(shorter.ids)
    weight = sum((end - start) * count for start, end, _, _, count in shorter.spans.tolist())
    assert weight == sum(len(targets) for _, targets in expected)
    assert_well_formed(shorter)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), name=st.sampled_from(NAMES))
def test_cutting_keeps_exactly_the_tokens_before_the_limit(data: st.DataObject, name: str, renderer: Build) -> None:
    tree = renderer(name).render(data.draw(trees(name)))
    limit = data.draw(st.integers(1, int(tree.positions().max()) + 3))
    shorter = truncate(tree, limit, "right")
    kept = np.flatnonzero(tree.positions() < limit)
    targets = [token for token in tree.targets().tolist() if tree.positions()[token] < limit]
    if isinstance(shorter, DroppedTree):
        assert not targets
        return
    assert shorter.ids.tolist() == tree.ids[kept].tolist()
    assert shorter.positions().tolist() == tree.positions()[kept].tolist()
    assert kept[shorter.targets()].tolist() == targets
    assert shorter.cut == len(tree.ids) - len(kept)
    assert shorter.threads == tree.threads
    assert_well_formed(shorter)


def test_what_fits_comes_back_as_it_is(renderer: Build) -> None:
    tree = renderer("oasst").render(Tree.path(HELLO))
    for policy in ("drop", "right", "error"):
        assert truncate(tree, len(tree.ids), policy) is tree


def test_too_long_is_an_error_with_its_place_if_asked_for(renderer: Build) -> None:
    tree = renderer("oasst").render(Tree.path(LONGER))
    with pytest.raises(DataError, match=rf"data\.jsonl:2: a thread of {len(tree.ids)} tokens; the limit is 5"):
        truncate(tree, 5, "error", "data.jsonl:2")


def test_a_tree_without_targets_is_dropped_with_the_reason(renderer: Build) -> None:
    question = renderer("oasst").render(Tree.path(HELLO[:1]))
    assert truncate(question, 100, "drop") == DroppedTree("no_target")
    prompt = len(renderer("oasst").prompt(HELLO[:1]))
    tree = renderer("oasst").render(Tree.path(HELLO))
    assert truncate(tree, prompt, "right") == DroppedTree("too_long")
    one_target = truncate(tree, prompt + 1, "right")
    assert isinstance(one_target, TokenTree)
    assert len(one_target.targets()) == 1


def test_thread_counts_follow_the_threads_that_are_left(renderer: Build) -> None:
    long = Message("user", "And what of the dog that sat by the door? " * 4)
    tree = renderer("oasst").render(Tree((*HELLO, Message("user", "Why?"), long), (-1, 0, 1, 1)))
    assert tree.spans[:, 4].tolist() == [2, 2]
    shorter = truncate(tree, 30, "drop")
    assert isinstance(shorter, TokenTree)
    assert shorter.spans[:, 4].tolist() == [1, 1]
    assert len(shorter.segments) == 1
    expected = renderer("oasst").render(Tree.path([*HELLO, Message("user", "Why?")]))
    assert shorter.ids.tolist() == expected.ids.tolist()
    assert shorter.spans.tolist() == expected.spans.tolist()
