"""What is held back depends on content and seed, not on place or order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.small_runs import RECORDS, run, write
from tunesmith.data.dataset.split import content_key, held_out, limit_records, split_records
from tunesmith.data.dataset.store import Store
from tunesmith.data.readers.source_config import Holdout
from tunesmith.errors import DataError
from tunesmith.text.tree import Message, Tree


def pair(question: str, reply: str, context: str = "") -> Tree:
    return Tree.path((Message("user", question, context=context), Message("assistant", reply)))


def keys_of(texts: list[str]) -> npt.NDArray[np.uint8]:
    return np.frombuffer(b"".join(content_key(pair(text, "b")) for text in texts), dtype=np.uint8).reshape(-1, 16)


KEYS = keys_of([str(number) for number in range(2000)])


def test_the_key_follows_what_is_said() -> None:
    same = Tree(pair("a", "b").messages, (-1, 0), place="x.jsonl:3", source="x")
    assert content_key(same) == content_key(pair("a", "b"))
    ranked = Tree.path(
        (Message("user", "a"), Message("assistant", "b", rank=1, score=2.0, lang="de", labels={"x": 1.0}))
    )
    assert content_key(ranked) == content_key(pair("a", "b"))


def test_different_content_has_different_keys() -> None:
    question, one, two = Message("user", "a"), Message("assistant", "b"), Message("assistant", "c")
    trees = [
        pair("a", "b"),
        pair("ab", ""),
        pair("a", "", "b"),
        pair("a", "b", "c"),
        Tree.path((question, Message("system", "b"))),
        Tree.path((question, one, two)),
        Tree((question, one, two), (-1, 0, 0)),
        Tree((question, two, one), (-1, 0, 0)),
    ]
    assert len({content_key(tree) for tree in trees}) == len(trees)


def test_a_number_is_taken_exactly() -> None:
    for count in (1, 7, 1999):
        assert held_out(KEYS, count, seed=3).sum() == count
    assert held_out(KEYS, 0, seed=3).sum() == held_out(KEYS, 0.0, seed=3).sum() == 0


def test_a_share_is_taken_about() -> None:
    shares = [held_out(KEYS, 0.1, seed=seed).mean() for seed in range(20)]
    assert min(shares) > 0.07
    assert max(shares) < 0.13
    assert 0.095 < np.mean(shares) < 0.105


@pytest.mark.parametrize("validation", [0.2, 100])
def test_seeds_choose_independently(validation: float) -> None:
    chosen = [held_out(KEYS, validation, seed=seed) for seed in range(6)]
    share = chosen[0].mean()
    for index, one in enumerate(chosen):
        for other in chosen[index + 1 :]:
            assert abs((one & other).mean() - share**2) < 0.03


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**63 - 1), st.floats(0.01, 0.9), st.integers(100, 1999), st.randoms(use_true_random=False))
def test_a_share_is_stable_when_data_grow_or_move(seed: int, share: float, size: int, random: object) -> None:
    order = np.random.default_rng(seed).permutation(len(KEYS))
    whole = held_out(KEYS, share, seed)
    assert (held_out(KEYS[:size], share, seed) == whole[:size]).all() or not whole[:size].any()
    assert (held_out(KEYS[order], share, seed) == whole[order]).all()
    assert (held_out(KEYS[order], 50, seed) == held_out(KEYS, 50, seed)[order]).all()


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.sampled_from("abcdefgh"), min_size=12, max_size=40), st.integers(0, 99), st.sampled_from([0.3, 1, 3])
)
def test_copies_are_on_the_same_side(texts: list[str], seed: int, validation: float) -> None:
    texts = [*texts, "x", "y", "z", "v", "w"]
    try:
        chosen = held_out(keys_of(texts), validation, seed)
    except DataError:
        return
    assert chosen.any()
    assert not {text for text, held in zip(texts, chosen, strict=True) if held} & {
        text for text, held in zip(texts, chosen, strict=True) if not held
    }


def test_a_small_share_of_few_records_is_still_one() -> None:
    for seed in range(20):
        assert held_out(KEYS[:5], 0.001, seed).sum() == 1


@pytest.mark.parametrize(("count", "validation"), [(1, 0.01), (1, 1), (5, 5), (5, 9), (5, 0.9999999)])
def test_something_must_be_left_to_train_on(count: int, validation: float) -> None:
    with pytest.raises(DataError, match=rf"holds out all {count} records.*append data\.validation=0\.05"):
        held_out(KEYS[:count], validation, 0)


def test_nothing_is_held_out_of_nothing() -> None:
    assert held_out(KEYS[:0], 0.5, 0).shape == (0,)


def test_the_choice_never_changes() -> None:
    """Written down once: another version of this program must hold back the same records."""
    assert np.flatnonzero(held_out(KEYS, 4, seed=1)).tolist() == [155, 462, 613, 636]


def owners(*sizes: int) -> npt.NDArray[np.int64]:
    """Sources whose records follow one another."""
    return np.repeat(np.arange(len(sizes)), sizes)


def test_sources_that_say_nothing_are_divided_as_one() -> None:
    for validation in (0, 0.2, 50):
        sides = split_records(KEYS[:900], owners(400, 500), [Holdout(), Holdout()], validation, 7, ["a", "b"])
        assert (sides.evaluated == held_out(KEYS[:900], validation, 7)).all()
        assert (sides.train == ~sides.evaluated).all()


def test_a_source_may_hold_back_what_it_likes() -> None:
    holdings = [Holdout(30), Holdout(), Holdout(0), Holdout(0.5)]
    sides = split_records(KEYS[:1000], owners(100, 500, 200, 200), holdings, 0.1, 7, list("abcd"))
    assert sides.evaluated[:100].sum() == 30
    assert (sides.evaluated[:100] == held_out(KEYS[:100], 30, 7)).all()
    assert (sides.evaluated[100:600] == held_out(KEYS[100:600], 0.1, 7)).all()
    assert sides.evaluated[600:800].sum() == 0
    assert (sides.evaluated[800:] == held_out(KEYS[800:1000], 0.5, 7)).all()
    assert (sides.train == ~sides.evaluated).all()


def test_a_limit_cuts_what_is_evaluated_and_trains_nothing_more() -> None:
    source = owners(400, 600)
    whole = split_records(KEYS[:1000], source, [Holdout(), Holdout()], 0.3, 7, ["a", "b"])
    cut = split_records(KEYS[:1000], source, [Holdout(limit=20), Holdout(limit=1000)], 0.3, 7, ["a", "b"])
    assert (cut.train == whole.train).all()
    assert cut.evaluated[:400].sum() == 20
    assert not (cut.evaluated & ~whole.evaluated).any()
    assert (cut.evaluated[400:] == whole.evaluated[400:]).all()
    larger = split_records(KEYS[:1000], source, [Holdout(limit=21), Holdout()], 0.3, 7, ["a", "b"])
    assert not (cut.evaluated & ~larger.evaluated).any()
    everything = np.ones(400, dtype=np.bool_)
    assert limit_records(KEYS[:400], source[:400], everything, [20], 7).sum() == 20
    assert limit_records(KEYS[:400], source[:400], everything, [None], 7).all()


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from("abcdefgh")), min_size=10, max_size=40),
    st.lists(st.sampled_from([None, 0, 1, 3, 0.4]), min_size=3, max_size=3),
    st.sampled_from([0, 2, 0.3]),
    st.integers(0, 99),
)
def test_the_same_record_in_two_sources_is_on_the_same_side(
    given_records: list[tuple[int, str]], amounts: list[int | float | None], validation: float, seed: int
) -> None:
    extra = [(source, f"{source}{number}") for source in range(3) for number in range(6)]
    records = sorted([*given_records, *extra])
    texts, keys = [text for _, text in records], keys_of([text for _, text in records])
    source = np.array([index for index, _ in records])
    try:
        sides = split_records(keys, source, [Holdout(amount) for amount in amounts], validation, seed, list("abc"))
    except DataError:
        return
    trained = {text for text, flag in zip(texts, sides.train, strict=True) if flag}
    evaluated = {text for text, flag in zip(texts, sides.evaluated, strict=True) if flag}
    assert trained
    assert not trained & evaluated
    for index, amount in enumerate(amounts):
        if amount is not None:
            assert bool(sides.evaluated[source == index].any()) == bool(amount)


def test_a_source_that_holds_back_everything_is_named() -> None:
    with pytest.raises(DataError, match="validation 100 of source b holds out all 50 records"):
        split_records(KEYS[:90], owners(40, 50), [Holdout(), Holdout(100)], 0, 7, ["a", "b"])
    twice = np.concatenate([KEYS[:10], KEYS[:11]])
    assert (
        split_records(twice, owners(10, 11), [Holdout(3), Holdout(0)], 0, 7, ["a", "b"]).train.sum() == 10 - 3 + 11 - 3
    )


def thread_file(directory: Path, trees: int = 40) -> Path:
    """Three threads of each tree, as OpenAssistant exports them: one a line, in no order of the trees."""
    rows = []
    for branch in range(3):
        for number in range(trees):
            root = {"message_id": f"q{number}", "role": "prompter", "text": f"Question {number}?"}
            reply = {"message_id": f"a{number}.{branch}", "role": "assistant", "text": f"Answer {branch} to {number}."}
            rows.append({"thread_id": f"{number}.{branch}", "thread": [root, {**reply, "parent_id": f"q{number}"}]})
    return write(directory / "threads.jsonl", rows)


def questions(store: Store) -> set[tuple[int, ...]]:
    """The tokens before the reply of every record."""
    trees = [store.tree(number) for number in range(len(store))]
    return {tuple(tree.ids[: tree.spans[0, 0]].tolist()) for tree in trees}


@pytest.mark.parametrize("validation", [0.3, 10])
def test_threads_of_one_tree_are_on_one_side_of_the_split(
    tokenizer: str, tmp_path: Path, validation: int | float
) -> None:
    path = thread_file(tmp_path)
    options = {"states": None, "reviewed": False}
    prepared = run(
        path, tokenizer, tmp_path, validation=validation, reader="oasst", options=options, format="oasst", seed=3
    )
    assert prepared.validation is not None
    train, held = questions(prepared.train), questions(prepared.validation)
    assert not train & held
    assert len(train) + len(held) == 40
    assert (len(prepared.train), len(prepared.validation)) == (3 * len(train), 3 * len(held))
    assert len(held) >= 4


def test_records_without_a_group_are_split_by_their_content(tokenizer: str, tmp_path: Path) -> None:
    prepared = run(write(tmp_path / "a.jsonl", RECORDS), tokenizer, tmp_path, validation=0.3)
    assert np.array_equal(prepared.train.groups, prepared.train.keys)


def test_groups_that_repeat_each_other_leave_nothing_to_train_on() -> None:
    keys, groups = np.repeat(KEYS[:1], 2, axis=0), KEYS[1:3]
    with pytest.raises(DataError, match="repeats one that is held out"):
        split_records(keys, owners(2), [Holdout()], 1, 7, ["a"], groups)
