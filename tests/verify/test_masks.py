"""The proof of masks on single records: every wrong mask or token is found, as the property that it breaks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from tests.text.conversations import HELLO, LONGER
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.text.tree import Tree
from tunesmith.verify.masks import Property, find_mask_faults

Build = Callable[..., Renderer]


def with_spans(tokens: TokenTree, *spans: Sequence[int]) -> TokenTree:
    return replace(tokens, spans=np.array(spans, np.int32).reshape(-1, 5))


def moved(tokens: TokenTree, *change: int) -> TokenTree:
    """Every span with some of its numbers changed: start, end, source."""
    return replace(tokens, spans=(tokens.spans + np.array([*change, 0, 0], np.int32)).astype(np.int32))


def longer_by(tokens: TokenTree, place: int, token: int) -> TokenTree:
    """One token is inserted, and everything after it moves on."""
    spans, segments = tokens.spans.copy(), tokens.segments.copy()
    spans[:, :3] += spans[:, :3] >= place
    segments[:, 1] += 1
    return replace(tokens, ids=np.insert(tokens.ids, place, token), spans=spans, segments=segments)


def other_token(tokens: TokenTree, place: int) -> TokenTree:
    ids = tokens.ids.copy()
    ids[place] = ids[place - 1] if ids[place] != ids[place - 1] else ids[place + 1]
    return replace(tokens, ids=ids)


FAULTS: dict[str, tuple[Callable[[TokenTree, Renderer], TokenTree], Property]] = {
    "nothing is trained": (lambda tokens, _: with_spans(tokens), "targets"),
    "the end is not trained": (lambda tokens, _: moved(tokens, 0, -1, 0), "end"),
    "the first token of a reply is not trained": (lambda tokens, _: moved(tokens, 1, 0, 1), "reply"),
    "the role token before a reply is trained": (lambda tokens, _: moved(tokens, -1, 0, -1), "context"),
    "the question is trained": (
        lambda tokens, _: with_spans(tokens, (1, len(tokens.ids), 0, 1, 1)),
        "context",
    ),
    "a token is predicted from itself": (lambda tokens, _: moved(tokens, 0, 0, 1), "source"),
    "a token is predicted from the one two before it": (lambda tokens, _: moved(tokens, 0, 0, -1), "source"),
    "the prompt is not that of chat": (lambda tokens, _: other_token(tokens, 3), "prompt"),
    "the reply is another text": (lambda tokens, _: other_token(tokens, int(tokens.spans[0, 0]) + 2), "reply"),
    "a control token in the reply": (
        lambda tokens, built: longer_by(
            tokens, int(tokens.spans[0, 0]) + 1, built.tokenizer.find_ids(["<|prompter|>"])[0]
        ),
        "control",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_as_the_property_that_it_breaks(fault: str, renderer: Build) -> None:
    built, tree = renderer("oasst"), Tree.path(HELLO)
    tokens = built.render(tree)
    assert find_mask_faults(built, tree, tokens) == []
    change, name = FAULTS[fault]
    assert name in {each.property for each in find_mask_faults(built, tree, change(tokens, built))}


def test_a_bos_token_inside_of_a_thread_is_found(renderer: Build) -> None:
    built, tree = renderer("plain", "prefixed"), Tree.path(HELLO)
    tokens, bos = built.render(tree), built.tokenizer.bos_id
    assert bos is not None
    assert find_mask_faults(built, tree, tokens) == []
    for place in (1, 4):
        found = {each.property for each in find_mask_faults(built, tree, longer_by(tokens, place, bos))}
        assert "beginning" in found


def test_a_reply_that_is_context_must_not_be_a_target(renderer: Build) -> None:
    """An earlier turn that the data exclude from training."""
    built = renderer("oasst")
    silent = Tree.path([HELLO[0], replace(HELLO[1], trained=False), *LONGER[2:]])
    assert find_mask_faults(built, silent, built.render(silent)) == []
    found = find_mask_faults(built, silent, built.render(Tree.path(LONGER)))
    assert {each.property for each in found} == {"context"}
