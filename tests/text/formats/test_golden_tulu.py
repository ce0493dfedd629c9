"""Every recorded output of the two systems that train on the Tulu format. What is not the same is named and shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunesmith.errors import DataError
from tunesmith.text.formats.registry import build_format
from tunesmith.text.targets import Targets
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.text.tokens.truncate import DroppedTree, truncate
from tunesmith.text.tree import Message, Tree

Golden = Callable[[str], dict[str, Any]]
Build = Callable[..., Renderer]
Case = dict[str, Any]
Chat = list[dict[str, str]]
ROLES = ("system", "user", "assistant")
HEADER = "<|assistant|>\n"

# The number of cases of every kind with every outcome. Whoever adds cases to the vectors adds their outcomes here.
OUTCOMES = {
    "template": {"exact": 58, "quoted": 2, "line break": 1, "unknown role": 1},
    "oi_sft": {"exact": 20, "quoted": 1, "family class": 3, "header": 1, "two replies": 1, "refused": 1},
    "easylm_sft": {"exact": 47, "quoted": 1, "header": 2, "end": 2, "refused": 2},
    "easylm_preference": {"exact": 11, "no reply": 1},
    "oi_preference": {"exact": 8, "refused": 2},
    "easylm_dataset": {"exact": 4},
    "easylm_ppo_prompt": {"bos": 11, "no question": 1, "no pair": 1},
}


@pytest.fixture(scope="module")
def build(real_data: Callable[[str], Path]) -> Build:
    tokenizer = Tokenizer.load(str(real_data("tokenizers/llama")))

    def find(targets: Targets = "assistant", **options: Any) -> Renderer:
        return Renderer(build_format("tulu", options), tokenizer, targets)

    return find


def chat(messages: Chat) -> list[Message]:
    return [Message(message["role"], message["content"]) for message in messages]  # type: ignore[arg-type]


def labels(tree: TokenTree) -> list[int]:
    found = np.full(len(tree.ids), -100)
    found[tree.targets()] = tree.ids[tree.targets()]
    return found.tolist()


def quoted(renderer: Renderer, messages: Chat, ids: list[int], expected: list[int]) -> str:
    """The original makes a control token of a quoted one. Here the characters are the same, but it stays text."""
    read = renderer.tokenizer.decode
    assert read(ids, skip_controls=False).split() == read(expected, skip_controls=False).split()
    controls = [token for token in ids if renderer.tokenizer.is_control(token)]
    replies = sum(message["role"] == "assistant" for message in messages)
    assert Counter(controls) <= Counter([renderer.tokenizer.bos_id] + [renderer.tokenizer.eos_id] * replies)
    assert sum(renderer.tokenizer.is_control(token) for token in expected) > len(controls)
    return "quoted"


def is_quoting(messages: Chat) -> bool:
    return any(name in message["content"] for message in messages for name in ("<s>", "</s>"))


def refused(renderer: Renderer, messages: Chat) -> str:
    with pytest.raises((DataError, ValueError)):
        renderer.render(Tree.path(chat(messages)))
    return "refused"


def template(case: Case, build: Build) -> str:
    messages, settings, expected = case["input"]["messages"], case["settings"], case["expected"]
    renderer = build(bos=settings["add_bos"], strip=False)
    if any(message["role"] not in ROLES for message in messages):
        refused(renderer, messages)
        return "unknown role"  # the original leaves such a turn out without a word
    if settings["add_generation_prompt"]:
        ids = renderer.prompt(chat(messages))
    else:
        ids = renderer.render(Tree.path(chat(messages))).ids.tolist()
    if is_quoting(messages):
        return quoted(renderer, messages, ids, expected["input_ids"])
    if settings["add_generation_prompt"] and messages[-1]["role"] == "assistant":
        # there the prompt after a reply lacks the line break that training puts there
        assert renderer.tokenizer.decode(ids, skip_controls=False).endswith(f"</s>\n{HEADER}")
        assert expected["text"].endswith(f"</s>{HEADER}")
        assert ids[: -len(HEADER)] == expected["input_ids"][: len(ids) - len(HEADER)]
        return "line break"
    assert ids == expected["input_ids"]
    return "exact"


def supervised(
    case: Case, renderer: Renderer, length: int, known: Callable[[Case, list[int], list[int]], str | None]
) -> str:
    """Ids and labels of one conversation. known: the name of a difference that it has checked."""
    messages, expected = case["input"]["messages"], case["expected"]
    if "raises" in expected:
        return refused(renderer, messages)
    tree = renderer.render(Tree.path(chat(messages)))
    ids, wanted = tree.ids[:length].tolist(), labels(tree)[:length]
    if is_quoting(messages):
        return quoted(renderer, messages, ids, expected["input_ids"])
    if (name := known(case, ids, wanted)) is not None:
        return name
    assert ids == expected["input_ids"]
    assert wanted[1:] == expected["labels"][1:]  # the label of the first token is not used
    if "kept" in expected:
        assert isinstance(truncate(tree, length, "right"), TokenTree) == expected["kept"]
    return "exact"


def header_is_trained(renderer: Renderer, case: Case, ids: list[int], wanted: list[int]) -> str | None:
    """The originals train the header of a reply that does not follow a question; here a header is never a target."""
    if case.get("original_defect") != "N16":
        return None
    expected = case["expected"]
    more = [token for token, ours in zip(expected["labels"][1:], wanted[1:], strict=True) if token != ours]
    assert ids == expected["input_ids"]
    assert HEADER.endswith(renderer.tokenizer.decode(more).lstrip())
    assert len(more) >= 5
    return "header"


def oi_sft(case: Case, build: Build) -> str:
    settings = case["settings"]
    last = settings["function"].startswith("last_turn")
    renderer = build("last" if last else "assistant", bos=settings["add_bos"], strip=False)

    def known(case: Case, ids: list[int], wanted: list[int]) -> str | None:
        roles, expected = [message["role"] for message in case["input"]["messages"]], case["expected"]
        read = renderer.tokenizer.decode
        if case.get("original_defect") == "N14":  # another tokenizer than in training: no space after special tokens
            assert ids != expected["input_ids"]
            ours, theirs = (read(tokens, skip_controls=False) for tokens in (ids, expected["input_ids"]))
            assert ours.split() == theirs.split()
            return "family class"
        if ("assistant", "assistant") in pairwise(roles):
            assert (ids, expected["kept"]) == (expected["input_ids"], False)  # the original drops such a row
            assert set(expected["labels"]) == {-100}
            return "two replies"
        return header_is_trained(renderer, case, ids, wanted)

    return supervised(case, renderer, settings["max_seq_length"], known)


def easylm_sft(case: Case, build: Build) -> str:
    renderer = build(predict_line_break=True)

    def known(case: Case, ids: list[int], wanted: list[int]) -> str | None:
        expected = case["expected"]
        if case["input"]["messages"][-1]["role"] != "assistant":  # the original strips the end of the whole text
            line_break = renderer.tokenizer.encode("\n", continuing=True)
            assert ids == [*expected["input_ids"], *line_break]
            assert wanted[1:] == [*expected["labels"][1:], -100]
            return "end"
        return header_is_trained(renderer, case, ids, wanted)

    return supervised(case, renderer, case["settings"]["seq_length"], known)


def pair(record: dict[str, Any]) -> list[Tree]:
    """A preference pair as one tree: the turns that both sides have, then two branches. Two trees if they have none."""
    chosen, rejected = chat(record["chosen"]), chat(record["rejected"])
    shared = 0
    while shared < min(len(chosen), len(rejected)) - 1 and chosen[shared] == rejected[shared]:
        shared += 1
    if not shared:
        return [Tree.path(chosen), Tree.path(rejected)]
    parents = list(range(-1, len(chosen) - 1))
    other = [shared - 1, *range(len(chosen), len(chosen) + len(rejected) - shared - 1)]
    return [Tree((*chosen, *rejected[shared:]), (*parents, *other))]


def sides(renderer: Renderer, record: dict[str, Any], length: int) -> list[tuple[list[int], list[int]]]:
    """(ids, labels) of both replies, cut on the right, each thread as it is read from the tree."""
    found = []
    for tree in map(renderer.render, pair(record)):
        targets = labels(tree)
        for end in tree.ends():
            path = tree.thread(end)
            found.append((tree.ids[path].tolist()[:length], [targets[token] for token in path.tolist()][:length]))
    assert len(found) == 2
    return found


def is_trained(wanted: Sequence[int]) -> bool:
    return any(token != -100 for token in wanted)


def easylm_preference(case: Case, build: Build) -> str:
    record, expected, length = case["input"], case["expected"], case["settings"]["seq_length"]
    if "raises" in expected:
        assert record["chosen"][-1]["role"] == "user"  # for the reader to refuse: nothing is wrong with the tree
        return "no reply"
    found = sides(build("last"), record, length)
    for (ids, wanted), side in zip(found, ("chosen", "rejected"), strict=True):
        size = sum(expected[f"{side}_attn_mask"])
        assert ids == expected[f"{side}_input_ids"][:size]
        assert not any(expected[f"{side}_input_ids"][size:])
        assert [float(token != -100) for token in wanted][1:] == expected[f"{side}_loss_mask"][1:size]
    assert all(is_trained(wanted) for _, wanted in found) == expected["kept"]
    assert any(len(ids) >= length for ids, _ in found) == expected["truncated"]
    return "exact"


def oi_preference(case: Case, build: Build) -> str:
    record, expected, settings = case["input"], case["expected"], case["settings"]
    renderer = build(
        "last" if settings["function"].endswith("v1_2") else "assistant", bos=settings["add_bos"], strip=False
    )
    if "raises" in expected:
        return refused(renderer, record["chosen"])
    found = sides(renderer, record, settings["max_seq_length"])
    for (ids, wanted), side in zip(found, ("chosen", "rejected"), strict=True):
        assert ids == expected[f"{side}_input_ids"]
        assert wanted == expected[f"{side}_labels"]
    assert all(is_trained(wanted) for _, wanted in found) == expected["kept"]
    return "exact"


def easylm_dataset(case: Case, build: Build) -> str:
    settings, records = case["settings"], case["input"]["records"]
    length = settings["seq_length"]
    kept, cut = [], []
    for index, record in enumerate(records):
        if settings["dataset"] == "sft":
            tree = build(predict_line_break=True).render(Tree.path(chat(record["messages"])))
            found = [(tree.ids.tolist()[:length], labels(tree)[:length])]
            usable = not isinstance(truncate(tree, length, "right"), DroppedTree)
            assert usable == is_trained(found[0][1])
        else:
            found = sides(build("last"), record, length)
        cut += [index] if any(len(ids) >= length for ids, _ in found) else []
        whole = index not in cut or not settings["remove_truncated_samples"]
        kept += [index] if whole and all(is_trained(wanted) for _, wanted in found) else []
    assert (kept, cut) == (case["expected"]["kept"], case["expected"]["truncated"])
    return "exact"


def easylm_ppo_prompt(case: Case, build: Build) -> str:
    """The original begins these prompts without the begin token that its training has. Here both begin alike."""
    record, expected, renderer = case["input"], case["expected"], build()
    if "raises" in expected and "chosen" in record:
        assert "rejected" not in record  # for the reader to refuse
        return "no pair"
    asked = next(
        record[key]
        for key in ("instruction", "history_messages", "messages", "conversation", "chosen")
        if key in record
    )
    messages = [Message("user", asked)] if isinstance(asked, str) else chat(asked)
    messages = messages[:-1] if messages[-1].role == "assistant" else messages
    ids = renderer.prompt(messages)
    assert ids[0] == renderer.tokenizer.bos_id
    if "raises" in expected:
        assert [message.role for message in messages] == ["system"]  # which may be answered here
        return "no question"
    assert renderer.tokenizer.decode(ids, skip_controls=False) == f"<s>{expected['prompt_text']}"
    size = sum(expected["prompt_attn_mask"])
    assert ids[1:][:size] == expected["prompt_input_ids"][-size:]
    assert (len(ids) - 1 >= case["settings"]["seq_length"]) == expected["truncated"]
    assert (size < len(ids) - 1) <= expected["truncated"]  # there a prompt that is too long loses its end
    return "bos"


CHECKS: dict[str, Callable[[Case, Build], str]] = {
    "template": template,
    "oi_sft": oi_sft,
    "easylm_sft": easylm_sft,
    "easylm_preference": easylm_preference,
    "oi_preference": oi_preference,
    "easylm_dataset": easylm_dataset,
    "easylm_ppo_prompt": easylm_ppo_prompt,
}


@pytest.mark.parametrize("kind", CHECKS)
def test_every_case_is_the_same_or_differs_as_described(kind: str, golden: Golden, build: Build) -> None:
    outcomes: Counter[str] = Counter()
    for case in golden("tulu")["cases"]:
        if case["kind"] == kind:
            try:
                outcomes[CHECKS[kind](case, build)] += 1
            except AssertionError as error:
                raise AssertionError(case["id"]) from error
    assert outcomes == OUTCOMES[kind]


def test_no_case_is_left_out(golden: Golden) -> None:
    kinds = Counter(case["kind"] for case in golden("tulu")["cases"])
    assert kinds == {kind: sum(outcomes.values()) for kind, outcomes in OUTCOMES.items()}


def test_a_case_with_one_wrong_label_is_found(golden: Golden, build: Build) -> None:
    case = next(case for case in golden("tulu")["cases"] if case["kind"] == "easylm_sft")
    expected = case["expected"]
    spoiled = [*expected["labels"][:-1], -100]
    with pytest.raises(AssertionError):
        easylm_sft({**case, "expected": {**expected, "labels": spoiled}}, build)
