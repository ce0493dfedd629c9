"""Crops of long threads: equal to cropping every thread alone, whatever the tree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.text.conversations import HELLO, LONGER, NAMES, trees
from tests.text.tokens.test_render import trained
from tests.text.tokens.test_truncate import assert_well_formed
from tunesmith.text.tokens import crop as crop_module
from tunesmith.text.tokens.crop import CropSettings, count_crops, crop_threads, crop_window, thread_lengths
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.text.tokens.truncate import DroppedTree, truncate
from tunesmith.text.tree import Message, Tree

Build = Callable[..., Renderer]
Line = tuple[tuple[int, ...], tuple[tuple[int, int], ...]]


def lines(tree: TokenTree) -> list[Line]:
    """Ids and (target, source) positions of every thread."""
    paths = [tree.thread(end) for end in tree.ends()]
    return [(tuple(tree.ids[path].tolist()), tuple(trained(tree, path))) for path in paths]


def window(line: Line, opening: int, offset: int, limit: int) -> Line:
    """Return the opening of a thread and the ``limit - opening`` tokens from ``offset`` after it, by hand."""
    ids, targets = line
    kept = [*range(opening), *range(opening + offset, offset + limit)]
    place = {old: new for new, old in enumerate(kept)}
    pairs = [(t, s) for t, s in targets if t in place and s in place and place[s] + 1 == place[t]]
    if offset:
        pairs = [(t, s) for t, s in pairs if place[t] > opening]
    return tuple(ids[old] for old in kept), tuple((place[t], place[s]) for t, s in pairs)


def windows(line: Line, crop: CropSettings) -> list[Line]:
    """Return all windows of a thread that have a target, in order of their offset."""
    found = [window(line, crop.opening, offset, crop.limit) for offset in range(len(line[0]) - crop.limit + 1)]
    return [each for each in found if each[1]]


def by_hand(line: Line, crop: CropSettings) -> Line | None:
    """Return the example that evaluation uses for one thread."""
    if len(line[0]) <= crop.limit:
        return line
    if crop.policy == "left":
        cut = window(line, crop.opening, len(line[0]) - crop.limit, crop.limit)
        return cut if cut[1] else None
    return next(iter(windows(line, crop)), None)


def drawn(data: st.DataObject, renderer: Build) -> tuple[TokenTree, CropSettings]:
    name = data.draw(st.sampled_from(NAMES))
    options = {"prefix": data.draw(st.sampled_from(["", "Be kind."]))} if name == "oasst" else {}
    built = renderer(name, **options)
    tree = built.render(data.draw(trees(name)))
    assume(len(tree.spans))
    limit = data.draw(st.integers(built.opening + 1, max(built.opening + 2, int(thread_lengths(tree).max()) + 2)))
    policy = data.draw(st.sampled_from(["left", "window"]))
    return tree, CropSettings(policy, limit, built.opening, data.draw(st.sampled_from([0.0, 0.5, 1.0])))


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_evaluation_uses_the_crops_of_every_thread_alone(data: st.DataObject, renderer: Build) -> None:
    tree, crop = drawn(data, renderer)
    parts = crop_threads(tree, crop)
    expected = [by_hand(line, crop) for line in lines(tree)]
    found = Counter(line for part in parts for line in lines(part))
    wanted = Counter(line for line in expected if line is not None)
    short_without_targets = {line for line in wanted if not line[1]}
    for line in short_without_targets:  # alone they have no targets; in a tree that stays they are kept as context
        found.pop(line, None), wanted.pop(line, None)
    assert found == wanted
    for part in parts:
        assert_well_formed(part)
        assert len(part.spans)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), seed=st.integers(0, 2**63 - 1))
def test_every_window_has_a_target(data: st.DataObject, seed: int, renderer: Build) -> None:
    tree, crop = drawn(data, renderer)
    long = [line for line in lines(tree) if len(line[0]) > crop.limit]
    whole = [line for line in lines(tree) if len(line[0]) <= crop.limit]
    parts = [line for part in crop_threads(tree, crop, seed) for line in lines(part) if line not in whole]
    allowed = [windows(line, crop) for line in long]
    if crop.policy == "left":
        allowed = [[cut] if (cut := by_hand(line, crop)) else [] for line in long]
    allowed = [each for each in allowed if each]
    assert len(parts) == len(allowed)
    assert all(part in each for part, each in zip(parts, allowed, strict=True))
    assert [lines(part) for part in crop_threads(tree, crop, seed)] == [
        lines(part) for part in crop_threads(tree, crop, seed)
    ]


@settings(max_examples=150, deadline=None)
@given(data=st.data(), seed=st.one_of(st.none(), st.integers(0, 2**63 - 1)))
def test_weights_are_those_of_the_threads_or_one_for_every_token(
    data: st.DataObject, seed: int | None, renderer: Build
) -> None:
    """Weighting "threads": every thread counts. Weighting "messages": no token of the tree is trained twice."""
    tree, crop = drawn(data, renderer)
    numbered = TokenTree(np.arange(len(tree.ids), dtype=np.int32), tree.segments, tree.spans, tree.threads)
    by_thread: Counter[int] = Counter()
    for part in crop_threads(numbered, crop, seed):
        for start, end, _, _, threads in part.spans.tolist():
            by_thread.update({int(part.ids[token]): threads for token in range(start, end)})
        for line, (ids, targets) in zip(part.ends(), lines(part), strict=True):
            assert len(part.thread(line)) == len(ids) <= crop.limit
            assert all(source < target for target, source in targets)
    once = Counter(
        int(token) for part in crop_threads(numbered, crop, seed, once=True) for token in part.ids[part.targets()]
    )
    assert set(once.values()) <= {1}
    if seed is None:
        assert set(once) == set(by_thread)
    single = Counter(token for line in alone(numbered, crop, seed) for token in line)
    assert by_thread == single


def alone(tree: TokenTree, crop: CropSettings, seed: int | None) -> list[list[int]]:
    """The trained tokens of every thread after cutting, counted thread by thread."""
    return [
        [ids[target] for target, _ in targets]
        for part in crop_threads(tree, crop, seed)
        for ids, targets in lines(part)
    ]


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_every_token_is_kept_or_counted_as_cut(data: st.DataObject, renderer: Build) -> None:
    tree, crop = drawn(data, renderer)
    found = truncate(tree, crop.limit, crop.policy, opening=crop.opening)
    parts = crop_threads(tree, crop)
    if isinstance(found, DroppedTree):
        assert not any(len(part.spans) for part in parts)
        return
    size = count_crops(tree, crop)
    assert found.ids is tree.ids
    assert (found.cut, size.tokens) == (len(tree.ids) - size.kept, sum(len(part.ids) for part in parts))
    beginnings = [window(line, crop.opening, 0, crop.limit)[1] for line in lines(tree) if len(line[0]) > crop.limit]
    if crop.policy == "window" and all(beginnings) and sum(part.threads for part in parts) == tree.threads:
        assert found.cut == int((tree.positions() >= crop.limit).sum())
    assert size.targets == sum(len(part.targets()) for part in crop_threads(tree, crop, once=True))


FAULTS: dict[str, tuple[str, Any]] = {
    "offsets from a global generator": (
        "crop_draws",
        lambda seed, end: (0.0, int(np.random.default_rng().integers(2**63))),
    ),
    "any offset will do": ("_holds_target", lambda targets, settings: np.ones(len(targets) - settings.limit + 1, bool)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_in_windows_is_found(fault: str, renderer: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = renderer("oasst").render(Tree.path([Message("user", "word " * 60), Message("assistant", "the end")]))
    crop = CropSettings("window", 30, probability=1.0)
    monkeypatch.setattr(crop_module, *FAULTS[fault])
    found = [[part.ids.tolist() for part in crop_threads(tree, crop, 1)] for _ in range(20)]
    assert any(each != found[0] for each in found) or not found[0]


def long_conversation() -> Tree:
    turns = [turn for _ in range(12) for turn in (Message("user", "And then?"), Message("assistant", "Go on."))]
    return Tree.path(turns)


def test_windows_are_drawn_uniformly_where_targets_are(renderer: Build) -> None:
    built = renderer("oasst")
    tree = built.render(Tree.path([Message("user", "word " * 60), Message("assistant", "the end")]))
    limit = len(tree.ids) // 2
    crop = CropSettings("window", limit, probability=0.8)
    places = Counter(tuple(crop_threads(tree, crop, seed)[0].ids.tolist()) for seed in range(2000))
    fitting = windows(lines(tree)[0], crop)
    assert set(places) == {ids for ids, _ in fitting}
    counts = [places[ids] for ids, _ in fitting]
    first, *others = counts  # the beginning has no target here, so the first window with one is used instead
    share = 2000 * 0.8 / len(fitting)
    assert abs(first - 400 - share) < 5 * np.sqrt(2000 * 0.16) + 5 * np.sqrt(share)
    assert all(abs(count - share) < 5 * np.sqrt(share) for count in others)


def test_the_same_seed_gives_the_same_windows_and_another_seed_others(renderer: Build) -> None:
    tree = renderer("oasst").render(long_conversation())
    crop = CropSettings("window", 40, probability=1.0)
    found = [crop_threads(tree, crop, seed)[0].ids.tolist() for seed in (1, 1, 2, 3, 4)]
    assert found[0] == found[1]
    assert len({tuple(ids) for ids in found}) > 2


def test_the_prefix_stays_in_front_and_shrinks_the_window(renderer: Build) -> None:
    built = renderer("oasst", prefix="Be kind to everyone.")
    tree = built.render(long_conversation())
    front = tree.ids[: built.opening].tolist()
    assert built.tokenizer.decode(front, skip_controls=False) == "<|system|>Be kind to everyone.<|endoftext|>"
    for policy in ("left", "window"):
        crop = CropSettings(policy, 60, built.opening, 1.0)  # type: ignore[arg-type]
        (part,) = crop_threads(tree, crop, 3)
        assert len(part.ids) == 60
        assert part.ids[: built.opening].tolist() == front
        assert part.targets().min() > built.opening
    last = crop_threads(tree, CropSettings("left", 60, built.opening))[0]
    assert last.ids[built.opening :].tolist() == tree.ids[built.opening - 60 :].tolist()


def test_a_window_at_a_given_offset_is_cut_there(renderer: Build) -> None:
    tree = renderer("oasst").render(Tree.path(LONGER))
    cut = crop_window(tree, 0, 7, CropSettings("window", 9))
    assert lines(cut) == [window(lines(tree)[0], 0, 7, 9)]


def test_a_thread_without_a_target_at_its_end_is_rejected_on_the_left(renderer: Build) -> None:
    question = Message("user", "A question that nobody answered, and a long one. " * 3)
    tree = renderer("oasst").render(Tree.path([*HELLO, question]))
    assert truncate(tree, 30, "left") == DroppedTree("too_long")
    assert isinstance(truncate(tree, 30, "window"), TokenTree)
    assert truncate(tree, 1, "window") == DroppedTree("too_long")
    assert truncate(tree, 5, "window", opening=5) == DroppedTree("too_long")


def test_the_first_token_after_the_opening_is_a_target_only_of_the_beginning(renderer: Build) -> None:
    built = renderer("plain")
    tree = built.render(Tree.path([Message("assistant", "the cat sat")]))
    assert (built.opening, tree.targets()[0]) == (1, 1)
    (shortest,) = crop_threads(tree, CropSettings("window", 2, 1, probability=1.0), 1)
    assert lines(shortest) == [(tuple(tree.ids[:2].tolist()), ((1, 0),))]
    assert len(crop_threads(tree, CropSettings("left", 2, 1))) == 0


def test_a_window_never_has_its_only_target_where_it_begins(renderer: Build) -> None:
    """No token would predict it."""
    long = Message("user", "And now for a long question that nobody answered. " * 3)
    tree = renderer("oasst").render(Tree.path([*HELLO, long]))
    for seed in range(300):
        (part,) = crop_threads(tree, CropSettings("window", 12, probability=1.0), seed)
        assert len(part.targets())
