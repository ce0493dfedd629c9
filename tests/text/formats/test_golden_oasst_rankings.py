"""Every recorded batch of Open-Assistant's collator for rankings equals our threads, or differs as described here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tests.text.formats.test_golden_oasst import alternating, options
from tests.text.formats.test_golden_oasst import message as described
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tree import Message, Tree

Golden = Callable[[str], dict[str, Any]]
RealRenderer = Callable[..., Renderer]


def turns(entry: Any) -> tuple[list[Message] | None, list[Message]]:
    """The prompt (None if the replies have none) and the replies, best first."""
    if isinstance(entry, Mapping):
        prompt = entry["messages"]
        replies = [described(reply, 1) for reply in entry["replies"]]
        return prompt and [described(turn, index) for index, turn in enumerate(prompt)], replies
    prefix, texts = entry
    replies = [Message("assistant", text) for text in texts]
    return (None if prefix is None or prefix[0] is None else alternating(prefix)), replies


def threads(renderer: Renderer, prompt: Sequence[Message], replies: Sequence[Message]) -> list[list[int]]:
    """The ids of every thread of the tree of prompt and replies."""
    last = len(prompt) - 1
    tree = renderer.render(Tree((*prompt, *replies), (*range(-1, last), *[last] * len(replies))))
    return [tree.ids[tree.thread(end)].tolist() for end in tree.ends()]


def cut(whole: list[int], prefix: int, limit: int | None, least: int) -> list[int]:
    """Return what the original keeps of a row whose prefix has ``prefix`` tokens.

    The prefix loses its beginning to leave tokens for the reply, but not more than down to ``least`` tokens; the reply
    loses its end, and with it the eos. A negative number of tokens (N10) is counted from the end of the reply.
    """
    if limit is None:
        return whole
    reply = whole[prefix:]
    kept = whole[:prefix][-max(least, limit - len(reply)) :]
    return kept + (reply[: limit - least] if len(reply) > limit - least else reply)


def test_collated_rankings_are_equal_or_differ_as_described(golden: Golden, real: RealRenderer) -> None:
    cases = [case for case in golden("oasst_rm")["cases"] if case["kind"] == "collate"]
    assert len(cases) == 18
    outcomes: Counter[str] = Counter()
    for case in cases:
        config, expected = case["settings"], case["expected"]
        renderer = real("oasst", "pythia", **options(config))
        if "raises" in expected:  # a single reply is no ranking; here nothing of it would be compared
            assert config["max_replies"] == 1
            prompt, replies = turns(case["input"]["groups"][0])
            ranked = Renderer(renderer.format, renderer.tokenizer, "ranked")
            only = ranked.render(Tree.path([*(prompt or ()), replace(replies[0], rank=0)]))
            assert (len(only.replies), len(only.spans)) == (0, 0)
            outcomes["refused"] += 1
            continue
        sizes = [sum(mask) for mask in expected["attention_mask"]]
        rows = [row[:size] for row, size in zip(expected["input_ids"], sizes, strict=True)]
        assert [size for row, size in zip(expected["input_ids"], sizes, strict=True) if set(row[size:]) - {1}] == []
        groups, counts = case["input"]["groups"], [0]
        for entry in groups:
            prompt, replies = turns(entry)
            replies = replies[: config["max_replies"]]
            mine, rows = rows[: len(replies)], rows[len(replies) :]
            outcomes.update(compare(renderer, real, prompt, replies, mine, case))
            counts.append(counts[-1] + len(replies))
        assert counts == expected["cu_lengths"]
        assert rows == []
    assert outcomes == OUTCOMES


OUTCOMES = {"equal": 63, "alone": 19, "cut": 22, "other prompts in one group": 4, "refused": 1}


def compare(
    renderer: Renderer,
    real: RealRenderer,
    prompt: list[Message] | None,
    replies: list[Message],
    rows: list[list[int]],
    case: Mapping[str, Any],
) -> list[str]:
    if prompt is None:
        # differs: replies without a prompt are no tree here; each is what a document is
        plain = real("plain", "pythia", bos=False)
        assert [plain.render(Tree.path([reply])).ids.tolist() for reply in replies] == rows
        return ["alone"] * len(rows)
    config, whole = case["settings"], threads(renderer, prompt, replies)
    asked = len(threads(renderer, prompt[:-1], [prompt[-1]])[0])
    found = []
    for ids, row in zip(whole, rows, strict=True):
        if ids == row:
            found.append("equal")
            continue
        # differs: a reply that is too long is dropped here, so replies that are compared have one prompt; there each
        # keeps as much of its prompt as fits
        limit = config["max_length"]
        assert len(ids) > limit or case["original_defect"] == "N10", case["id"]
        assert row == cut(ids, asked, limit, config["min_prefix_length"]), case["id"]
        found.append("cut")
    kept = {len(row) - len(ids) + asked for ids, row in zip(whole, rows, strict=True) if row[-1] == ids[-1]}
    return [*found, *(["other prompts in one group"] if len(kept) > 1 else [])]
