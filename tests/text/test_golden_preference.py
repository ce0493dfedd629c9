"""What a run on preferences trains on == the recorded loss masks of the systems that trained on the same pairs.

From the row through reader, renderer with the targets ``ranked`` and truncation: for both sides ids and mask.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunesmith.data.readers import open_reader
from tunesmith.errors import DataError
from tunesmith.text.formats import build_format
from tunesmith.text.ranking import still_ranked
from tunesmith.text.render import Renderer
from tunesmith.text.token_tree import TokenTree
from tunesmith.text.tokenizer import Tokenizer
from tunesmith.text.tree import Tree
from tunesmith.text.truncate import truncate

Golden = Callable[[str], dict[str, Any]]
Case = dict[str, Any]
Side = tuple[list[int], list[int]]

# How many cases come out how. The originals take pairs that a reader refuses here: they say nothing, or compare other things.
OUTCOMES: dict[str, dict[str, int]] = {
    "easylm_preference": {
        "exact": 6,
        "nothing left": 2,
        "field 'chosen' and field 'rejected' are equal": 1,
        "field 'chosen' does not end with the assistant": 1,
        "field 'rejected' is empty": 1,
        "chosen[0] and rejected[0] differ before the reply": 1,
    },
    "oi_preference": {
        "exact": 3,
        "earlier replies too": 1,
        "field 'chosen' is empty": 2,
        "field 'rejected' is empty": 2,
        "chosen[0] and rejected[0] differ before the reply": 2,
    },
}


@pytest.fixture(scope="module")
def tokenizer(real_data: Callable[[str], Path]) -> Tokenizer:
    return Tokenizer.load(str(real_data("tokenizers/llama")))


def read(record: dict[str, Any]) -> Tree | str:
    """The tree that the reader makes of a row, or why it makes none."""
    try:
        found = open_reader("preference", {}, {}, where="test")(record)
    except DataError as error:
        return error.what
    return found if isinstance(found, Tree) else str(found)


def sides(tree: TokenTree) -> list[Side]:
    """(ids, labels) of the thread of every reply up to its end, the best first."""
    found = []
    for message, _, _ in sorted(tree.replies.tolist(), key=lambda row: row[2]):
        mine = [tuple(span[:2]) for span in tree.spans.tolist() if span[3] == message]
        last = mine[-1][1] - 1
        segment = next(n for n, (start, end, _) in enumerate(tree.segments.tolist()) if start <= last < end)
        path = [token for token in tree.thread(segment).tolist() if token <= last]
        trained = {token for start, end in mine for token in range(start, end)}
        ids = tree.ids[path].tolist()
        found.append((ids, [token if place in trained else -100 for place, token in zip(path, ids, strict=True)]))
    return found


def expected_sides(case: Case) -> list[Side]:
    found = []
    for name in ("chosen", "rejected"):
        expected = case["expected"]
        ids = expected[f"{name}_input_ids"]
        if f"{name}_labels" in expected:
            found.append((ids, expected[f"{name}_labels"]))
            continue
        size = sum(expected[f"{name}_attn_mask"])
        mask = expected[f"{name}_loss_mask"][:size]
        found.append((ids[:size], [token if on else -100 for token, on in zip(ids[:size], mask, strict=True)]))
    return found


def outcome(case: Case, tokenizer: Tokenizer) -> str:
    settings, easylm = case["settings"], case["kind"] == "easylm_preference"
    options = {} if easylm else {"bos": settings["add_bos"], "strip": False}
    renderer = Renderer(build_format("tulu", options), tokenizer, "ranked")
    tree = read(case["input"])
    if isinstance(tree, str):
        return tree
    whole = renderer.render(tree)
    cut = truncate(whole, settings["seq_length" if easylm else "max_seq_length"], "right")
    left = still_ranked(cut) if isinstance(cut, TokenTree) else None
    if left is None:
        assert not case["expected"]["kept"]
        return "nothing left"
    found, wanted = sides(left), expected_sides(case)
    assert case["expected"]["kept"]
    assert [ids for ids, _ in found] == [ids for ids, _ in wanted]
    ours, theirs = ([labels[1:] for _, labels in both] for both in (found, wanted))  # nothing predicts the first token
    if ours != theirs:
        assert settings["function"] == "preference_tulu_tokenize_and_truncate_v1"
        shared = common(*(ids for ids, _ in wanted)) - 1
        more = [{(n, t) for n, t in enumerate(other) if t != one[n]} for one, other in zip(ours, theirs, strict=True)]
        # the same tokens after the same beginning in both sides: their log-probabilities cancel in the loss
        assert more[0] == more[1]
        assert all(place < shared for place, _ in more[0])
        return "earlier replies too"
    return "exact"


def common(one: list[int], other: list[int]) -> int:
    """How many tokens two sequences begin with alike."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


@pytest.mark.parametrize("kind", OUTCOMES)
def test_both_sides_have_the_recorded_masks(kind: str, golden: Golden, tokenizer: Tokenizer) -> None:
    outcomes: Counter[str] = Counter()
    for case in golden("tulu")["cases"]:
        if case["kind"] == kind:
            try:
                outcomes[outcome(case, tokenizer)] += 1
            except AssertionError as error:
                raise AssertionError(case["id"]) from error
    assert outcomes == OUTCOMES[kind]
