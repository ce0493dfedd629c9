"""Ranked replies from messages to batches: invariants at every limit, and a proof that finds planted faults."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.model.rankings import FIVE, PAIR, SHAPES, changed_replies, dialogue
from tests.text.ranked_trees import ranked_trees
from tests.text.small_tokenizers import byte_level, t5_like, write_tokenizer
from tunesmith.batch.example import Example, Replies
from tunesmith.batch.packed import PackedBatch, assemble_packed
from tunesmith.batch.padded import assemble_padded
from tunesmith.compose.models.families import PACKED, padded
from tunesmith.text.formats.registry import build_format
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.ranking import drop_incomparable_replies
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.text.tokens.truncate import DroppedTree, truncate, truncate_input_and_replies


@pytest.fixture(scope="session")
def renderers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Renderer]:
    """Of ranked replies, by the format's name."""
    root, end = tmp_path_factory.mktemp("tokenizers"), "<|endoftext|>"
    write_tokenizer(root / "bytes", byte_level(), bos=end, eos=end, unk=end)
    write_tokenizer(root / "t5", t5_like(), eos="</s>", unk="<unk>", pad="<pad>")
    found = {}
    for name, kind in (("oasst", "bytes"), ("tulu", "bytes"), ("dolly", "bytes"), ("t5-dolly", "t5")):
        format = build_format(name, {})
        found[name] = Renderer(format, Tokenizer.load(str(root / kind), format.controls), "ranked")
    return found


def contents(tree: TokenTree) -> dict[int, list[int]]:
    found: dict[int, list[int]] = defaultdict(list)
    for start, end, _, message, _ in tree.spans.tolist():
        found[message] += tree.ids[start:end].tolist()
    return found


def assert_comparable(tree: TokenTree) -> None:
    """What every stored tree promises."""
    own = contents(tree)
    assert tree.replies[:, 0].tolist() == sorted(own)  # every reply has tokens, and what has tokens is a reply
    assert all(own.values())
    assert len(tree.scores) == len(tree.replies)
    for group in set(tree.replies[:, 1].tolist()):
        rows = tree.replies[tree.replies[:, 1] == group]
        assert len(set(rows[:, 2].tolist())) > 1
        ranks: dict[tuple[int, ...], set[int]] = defaultdict(set)
        for message, _, rank in rows.tolist():
            ranks[tuple(own[message])].add(rank)
        assert all(len(several) == 1 for several in ranks.values())  # replies that read the same have one rank


def assert_sound_batch(examples: list[Example], batch: PackedBatch) -> None:
    assert PACKED.find_fault(examples, batch, "messages") is None
    replies = batch.replies
    assert set(batch.owner.tolist()) == set(range(len(replies)))
    assert sorted(set(replies.group.tolist())) == list(range(len(set(replies.group.tolist()))))
    for row in range(len(replies)):
        mine = torch.nonzero(batch.owner == row)[:, 0]
        last = int(replies.end[row])
        assert int(batch.ids[last]) == int(batch.target[mine[-1]])
        assert int(batch.source[mine[-1]]) == last - 1 or len(mine) == 1
        assert int(batch.positions[last]) == int(batch.positions[batch.source[mine[-1]]]) + 1


@settings(max_examples=60, deadline=None)
@given(data=st.data(), name=st.sampled_from(["oasst", "tulu", "dolly"]), policy=st.sampled_from(["right", "drop"]))
def test_at_every_limit_what_is_left_can_be_compared(
    renderers: dict[str, Renderer], data: st.DataObject, name: str, policy: Any
) -> None:
    renderer = renderers[name]
    tree = data.draw(ranked_trees(single=not renderer.format.multi_turn, most=7))
    whole = renderer.render(tree)
    found: list[Example] = []
    for limit in range(1, len(whole.ids) + 2):
        cut = truncate(whole, limit, policy)
        left = None if isinstance(cut, DroppedTree) else drop_incomparable_replies(cut)
        if left is None:
            continue
        assert_comparable(left)
        known = {message: (group, rank) for message, group, rank in whole.replies.tolist()}
        assert all(known[message] == (group, rank) for message, group, rank in left.replies.tolist())
        before, after = contents(whole), contents(left)
        assert all(before[message][: len(ids)] == ids for message, ids in after.items())
        if policy == "drop":
            assert all(before[message] == ids for message, ids in after.items())
        found.append(Example(len(found), left, columns={"place": np.arange(len(left.replies), dtype=np.float32)}))
        assert drop_incomparable_replies(left) is left
    if found:
        assert_sound_batch(found, assemble_packed(found, "messages"))
        assert_sound_batch(found[-1:], assemble_packed(found[-1:], "messages"))


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(), policy=st.sampled_from(["right", "drop"]), limits=st.tuples(st.integers(1, 30), st.integers(1, 9))
)
def test_replies_of_an_encoder_decoder_at_every_limit(
    renderers: dict[str, Renderer], data: st.DataObject, policy: Any, limits: tuple[int, int]
) -> None:
    batches, found = padded(0, 0), []
    for tree in data.draw(st.lists(ranked_trees(single=True, most=6), min_size=1, max_size=4)):
        whole = renderers["t5-dolly"].render(tree)
        cut = truncate_input_and_replies(whole, *limits, policy)
        left = None if isinstance(cut, DroppedTree) else drop_incomparable_replies(cut)
        if left is not None:
            assert_comparable(left)
            place = np.arange(len(left.replies), dtype=np.float32) + 10 * len(found)
            found.append(Example(len(found), left, columns={"place": place}))
    for batch in batches.collate(found, "messages", 40):
        assert batches.find_fault([found[number] for number in batch.examples], batch, "messages") is None
        assert set(batch.owner.tolist()) == set(range(len(batch.replies)))


# Faults


def examples(*, single: bool = False) -> list[Example]:
    shapes = (PAIR, FIVE, PAIR) if single else SHAPES
    trees = [dialogue(number, shape, size=5 + 3 * number).tree() for number, shape in enumerate(shapes)]
    return [
        Example(number, tree, columns={"reference": -np.arange(len(tree.replies), dtype=np.float32) - 10 * number})
        for number, tree in enumerate(trees)
    ]


def with_replies(**change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Any], Any]:
    def wrong(batch: Any) -> Any:
        values = {name: how(getattr(batch.replies, name).clone()) for name, how in change.items()}
        replies = changed_replies(batch.replies, **values)
        return replace(batch, replies=replies, blocks=replies.blocks(batch.owner))

    return wrong


def exchanged(values: torch.Tensor) -> torch.Tensor:
    values[:2] = values[:2].flip(0)
    return values


FAULTS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "chosen and rejected exchanged": (with_replies(rank=exchanged), "has rank"),
    "scores exchanged": (with_replies(score=exchanged), "has score"),
    "one group": (with_replies(group=torch.zeros_like), "are in one group"),
    "groups with a gap": (with_replies(group=lambda group: group + 1), "not numbered 0, 1, 2"),
    "groups torn apart": (with_replies(group=lambda group: torch.arange(len(group))), "in different groups"),
    "owners moved on": (lambda batch: replace(batch, owner=batch.owner + 1), "belong to no reply"),
    "owners exchanged": (
        lambda batch: replace(batch, owner=torch.where(batch.owner < 2, 1 - batch.owner, batch.owner)),
        "are not its tokens",
    ),
    "a reply is missing": (
        lambda batch: replace(batch, replies=Replies.of(*(getattr(batch.replies, n)[1:] for n in NAMES))),
        "replies in the batch",
    ),
    "a pair is missing": (
        lambda batch: replace(
            batch, replies=replace(batch.replies, chosen=batch.replies.chosen[1:], rejected=batch.replies.rejected[1:])
        ),
        "pairs are not those of the ranks",
    ),
    "a pair turned round": (
        lambda batch: replace(
            batch, replies=replace(batch.replies, chosen=batch.replies.rejected, rejected=batch.replies.chosen)
        ),
        "pairs are not those of the ranks",
    ),
    "too many groups": (
        lambda batch: replace(batch, replies=replace(batch.replies, compared=batch.replies.compared + 1)),
        "numbers of groups",
    ),
    "blocks of other targets": (lambda batch: replace(batch, blocks=batch.blocks.flip(0)), "blocks of the targets"),
    "columns in another order": (
        lambda batch: replace(batch, columns={"reference": batch.columns["reference"].flip(0)}),
        "is not in the order of the replies",
    ),
    "columns of the wrong length": (
        lambda batch: replace(batch, columns={"reference": batch.columns["reference"][1:]}),
        "values for",
    ),
}
NAMES = ("group", "rank", "score", "end")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_in_a_packed_batch_is_found(fault: str) -> None:
    listed = examples()
    batch = assemble_packed(listed, "messages")
    assert PACKED.find_fault(listed, batch, "messages") is None
    wrong, says = FAULTS[fault]
    found = PACKED.find_fault(listed, wrong(batch), "messages")
    assert found is not None
    assert says in found


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if not fault.startswith("owners")])
def test_a_planted_fault_in_a_padded_batch_is_found(fault: str) -> None:
    listed = examples(single=True)
    batch = assemble_padded(listed, "messages", start=0, padding=0)
    batches = padded(0, 0)
    assert batches.find_fault(listed, batch, "messages") is None
    wrong, says = FAULTS[fault]
    found = batches.find_fault(listed, wrong(batch), "messages")
    assert found is not None
    assert says in found


ENDS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "one early": lambda end: end - 1,
    "one late": lambda end: (end + 1).clamp_max(end.max()),
    "of another reply": exchanged,
    "of another example": lambda end: end.flip(0),
}


@pytest.mark.parametrize("fault", ENDS)
def test_a_wrong_end_is_found(fault: str) -> None:
    listed = examples()
    found = PACKED.find_fault(listed, with_replies(end=ENDS[fault])(assemble_packed(listed, "messages")), "messages")
    assert found is not None
    assert "does not end where its thread does" in found or "lies in another example" in found


def test_references_in_the_order_of_the_step_instead_of_the_batch_are_found() -> None:
    """Padded batches reorder the examples of a step; their columns have to follow."""
    listed = examples(single=True)
    kind = padded(0, 0)
    batches = list(kind.collate(listed[::-1], "messages", 10**6))
    order = [number for batch in batches for number in batch.examples]
    assert order != [example.number for example in listed[::-1]]
    joined = torch.from_numpy(np.concatenate([example.columns["reference"] for example in listed[::-1]]))
    (batch,) = batches
    mine = [listed[number] for number in batch.examples]
    assert kind.find_fault(mine, batch, "messages") is None
    wrong = kind.find_fault(mine, replace(batch, columns={"reference": joined}), "messages")
    assert wrong == "column 'reference' is not in the order of the replies"
