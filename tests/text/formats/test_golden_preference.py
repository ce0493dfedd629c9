"""What a run on preferences trains on == the recorded loss masks of the systems that trained on the same pairs.

From the row through reader, renderer with the targets ``ranked`` and truncation: for both sides ids and mask.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunesmith.data.readers.reader import ReadTree
from tunesmith.data.readers.registry import open_reader
from tunesmith.errors import DataError
from tunesmith.text.formats.registry import build_format
from tunesmith.text.formats.template_options import template_options
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.ranking import drop_incomparable_replies
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.text.tokens.truncate import truncate
from tunesmith.text.tree import Tree

# The prompts of the reference implementation of DPO: the marks of HH's transcripts, and an end token after the reply.
TRANSCRIPT = """\
{%- for message in messages -%}
{%- if message['role'] == 'user' -%}{{ '\\n\\nHuman: ' + message['content'] }}
{%- else -%}{{ '\\n\\nAssistant: ' + message['content'] + eos_token }}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '\\n\\nAssistant:' }}{%- endif -%}
"""
Golden = Callable[[str], dict[str, Any]]
Case = dict[str, Any]
SplitCounts = tuple[list[int], list[int]]

# The number of cases with every outcome. The originals accept pairs that a reader refuses here, because they contain no
# preference or do not compare replies.
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
    return found.tree if isinstance(found, ReadTree) else str(found)


def sides(tree: TokenTree) -> list[SplitCounts]:
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


def expected_sides(case: Case) -> list[SplitCounts]:
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
    left = drop_incomparable_replies(cut) if isinstance(cut, TokenTree) else None
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


def transcripts(real_data: Callable[[str], Path]) -> Renderer:
    where = str(real_data("tokenizers/pythia"))
    format = build_format("tokenizer", template_options(where, given={"template": TRANSCRIPT}))
    return Renderer(format, Tokenizer.load(where, format.controls), "ranked")


def reference_dpo(pair: dict[str, str], renderer: Renderer) -> list[SplitCounts]:
    """One question, as the transcripts of HH give it, through reader and renderer."""
    row = {side: pair["prompt"] + pair[side] for side in ("chosen", "rejected")}
    result = open_reader("hh", {}, {}, where="test")(row)
    assert isinstance(result, ReadTree)
    assert not result.dropped
    return sides(renderer.render(result.tree))


def test_both_sides_are_those_of_the_reference_implementation_of_dpo(
    golden: Golden, real_data: Callable[[str], Path]
) -> None:
    """Two things differ. Its limits: it cuts a long prompt at the beginning or the end, and leaves
    max_length - max_prompt_length tokens of every reply, without the end token; here long pairs are dropped, or their
    replies are cut at one limit. Its end tokens: there is none after an earlier reply, here every reply ends with one.
    """
    renderer, cases = transcripts(real_data), golden("extras")["cases"]
    outcomes: Counter[str] = Counter()
    for case in cases:
        settings, expected = case["settings"], case["expected"]
        if case["kind"] == "reference_dpo_collate":
            for row, pair in enumerate(case["input"]["pairs"]):
                for side, (ids, labels) in zip(("chosen", "rejected"), reference_dpo(pair, renderer), strict=True):
                    size = sum(expected[f"{side}_attention_mask"][row])
                    assert (ids, labels) == tuple(
                        expected[f"{side}_{of}"][row][:size] for of in ("input_ids", "labels")
                    )
                outcomes["exact"] += 1
        elif case["kind"] == "reference_dpo":
            outcomes[of_reference_dpo(case["input"], settings, expected, renderer)] += 1
    assert outcomes == {"exact": 3, "cut": 4, "quoted": 1, "an empty side": 1}


def of_reference_dpo(
    pair: dict[str, str], settings: dict[str, Any], expected: dict[str, Any], renderer: Renderer
) -> str:
    if "raises" in expected:  # a quoted end token; here it stays text
        (ids, labels), _ = reference_dpo(pair, renderer)
        assert [token for token in ids if renderer.tokenizer.is_control(token)] == ids[-1:]
        return "quoted"
    if not pair["rejected"].strip():
        return "an empty side"
    found = reference_dpo(pair, renderer)
    wanted = [(expected[f"{side}_input_ids"], expected[f"{side}_labels"]) for side in ("chosen", "rejected")]
    if found == wanted:
        return "exact"
    reply_limit = settings["max_length"] - settings["max_prompt_length"]
    for (ids, labels), (theirs, trained) in zip(found, wanted, strict=True):
        own, other = ([token for token in each if token != -100] for each in (labels, trained))
        assert other == own[: len(other)]  # the same reply, or its first tokens
        assert len(other) in (len(own), reply_limit)
        prompt = theirs[: len(theirs) - len(other)]
        if len(prompt) == settings["max_prompt_length"]:
            continue
        assert ids[: len(prompt)] == prompt
    return "cut"
