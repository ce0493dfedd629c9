"""Dolly against recorded outputs of the original. Where ours differs, the test describes how."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from tunesmith.data.dataset.split import held_out
from tunesmith.draws import KEY_BYTES
from tunesmith.errors import DataError
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.text.tokens.truncate import DroppedTree, truncate
from tunesmith.text.tree import Message, Tree

Golden = Callable[[str], dict[str, Any]]
RealRenderer = Callable[..., Renderer]
DOLLY_CONTROLS = ("### End", "### Instruction:", "### Response:\n", "<|endoftext|>", "<|padding|>")


def cases(golden: dict[str, Any], *kinds: str) -> list[dict[str, Any]]:
    found = [case for case in golden["cases"] if case["kind"] in kinds]
    assert found
    return found


def labels(tree: TokenTree) -> list[int]:
    found = np.full(len(tree.ids), -100)
    found[tree.targets()] = tree.ids[tree.targets()]
    return found.tolist()


def dolly_tree(record: Mapping[str, Any]) -> Tree:
    asked = Message("user", record["instruction"], context=record["context"] or "")
    return Tree.path([asked, Message("assistant", record["response"])])


def holds_control(record: Mapping[str, Any]) -> bool:
    """Whether the contents quote a control token: the original lets them become one, ours does not."""
    texts = (record["instruction"], record["context"] or "", record["response"] + "\n\n")
    return any(name in text for name in DOLLY_CONTROLS for text in texts)


def assert_inert(renderer: Renderer, record: Mapping[str, Any], text: str) -> None:
    """Quoted control tokens are text: the bytes are the original's, but only the format's own controls are controls."""
    tree = renderer.render(dolly_tree(record))
    ids = tree.ids.tolist()
    assert renderer.tokenizer.decode(ids, skip_controls=False) == text
    controls = ["### Instruction:", "### Response:\n", "### End"]
    assert [token for token in ids if renderer.tokenizer.is_control(token)] == list(
        map(renderer.tokenizer.control, controls)
    )
    reply = renderer.tokenizer.encode(record["response"] + "\n\n")
    assert tree.ids[tree.targets()].tolist() == [*reply, renderer.tokenizer.control("### End")]


def test_dolly_training_records_are_as_recorded(golden: Golden, real: RealRenderer) -> None:
    renderer = real("dolly", "pythia")
    exact = 0
    for case in cases(golden("dolly"), "train_record"):
        record, expected, length = case["input"], case["expected"], case["settings"]["max_length"]
        tree = renderer.render(dolly_tree(record))
        if holds_control(record):
            assert_inert(renderer, record, expected["text"])
            continue
        assert tree.ids[:length].tolist() == expected["input_ids"], case["id"]
        kept = truncate(tree, length - 1, "drop")
        assert isinstance(kept, TokenTree) == expected["kept"], case["id"]
        if isinstance(kept, TokenTree):
            assert labels(kept) == expected["labels"][: len(kept.ids)], case["id"]
            exact += 1
    assert exact >= 25


def test_dolly_batches_and_datasets_are_as_recorded(golden: Golden, real: RealRenderer) -> None:
    renderer = real("dolly", "pythia")
    for case in cases(golden("dolly"), "train_batch"):
        found = renderer.render_many([dolly_tree(record) for record in case["input"]["records"]])
        for tree, ids, wanted in zip(found, case["expected"]["input_ids"], case["expected"]["labels"], strict=True):
            assert isinstance(tree, TokenTree)
            assert tree.ids.tolist() == ids[: len(tree.ids)]
            assert labels(tree) == wanted[: len(tree.ids)]
    for case in cases(golden("dolly"), "dataset_pipeline"):
        trees = renderer.render_many([dolly_tree(record) for record in case["input"]["records"]])
        assert all(isinstance(tree, TokenTree) for tree in trees)
        kept = [truncate(tree, case["settings"]["max_length"] - 1, "drop") for tree in trees]  # type: ignore[arg-type]
        used = {index for index, tree in enumerate(kept) if isinstance(tree, TokenTree)}
        expected = case["expected"]
        assert used == {*expected["train"], *expected["test"]} == {*expected["order_after_shuffle"]}
        assert set(range(len(trees))) - used == set(expected["dropped"])


def test_dolly_cases_are_all_compared(golden: Golden) -> None:
    kinds = {
        "train_record",
        "train_batch",
        "dataset_pipeline",
        "error",
        "generation_prompt",
        "forward_params",
        "postprocess",
    }
    assert {case["kind"] for case in golden("dolly")["cases"]} == {*kinds, "split_order"}


def test_dolly_holds_out_as_many_rows(golden: Golden) -> None:
    """The same number, every row once. The choice depends on a shuffle there, and on the contents of the rows here."""
    for case in cases(golden("dolly"), "split_order"):
        count, size, expected = case["input"]["n"], case["settings"]["test_size"], case["expected"]
        assert sorted(expected["shuffled"]) == sorted(expected["train"] + expected["test"]) == list(range(count))
        keys = np.random.default_rng(0).integers(0, 256, (count, KEY_BYTES)).astype(np.uint8)
        rows = held_out(keys, size if isinstance(size, int) else len(expected["test"]), case["settings"]["seed"])
        assert rows.sum() == len(expected["test"]) == (size if isinstance(size, int) else round(size * count))


def test_dolly_refuses_what_the_original_refuses(golden: Golden, real: RealRenderer) -> None:
    renderer = real("dolly", "pythia")
    for case in cases(golden("dolly"), "error"):
        record = case["input"]
        if record["instruction"] and record["response"]:
            tree = renderer.render(dolly_tree(record))
            assert truncate(tree, case["settings"]["max_length"], "right") == DroppedTree("too_long")
        else:
            with pytest.raises(DataError, match="an empty"):
                renderer.render(dolly_tree(record))


def test_dolly_prompts_are_as_recorded(golden: Golden, real: RealRenderer) -> None:
    renderer = real("dolly", "pythia")
    for case in cases(golden("dolly"), "generation_prompt"):
        assert renderer.prompt([Message("user", case["input"]["instruction"])]) == case["expected"]["input_ids"]
    instruction, _, context = cases(golden("dolly"), "generation_prompt")[-1]["input"]["instruction"].partition(
        "\n\nInput:\n"
    )
    asked = Message("user", instruction, context=context)
    assert renderer.prompt([asked]) == cases(golden("dolly"), "generation_prompt")[-1]["expected"]["input_ids"]
    for case in cases(golden("dolly"), "forward_params"):
        if case["settings"]["tokenizer"] == "dolly":
            assert renderer.stop_ids == {case["expected"]["generate_args"]["eos_token_id"]}


def test_dolly_replies_are_parsed_as_recorded(golden: Golden, real: RealRenderer) -> None:
    """Our replies are parsed without their prompt, so cases with keys missing from it or planted in it are left out."""
    renderer = real("dolly", "pythia")
    for case in cases(golden("dolly"), "postprocess"):
        key = case["settings"]["response_key_token_id"]
        records = case["expected"].get("records_no_cleanup", case["expected"]["records"])
        for ids, record in zip(case["input"]["generated_sequences"], records, strict=True):
            if case["settings"]["tokenizer"] != "dolly" or key not in ids:
                continue
            text = renderer.parse(ids[ids.index(key) + 1 :]).text
            whole = f"{case['input']['instruction']}\n{text}" if case["settings"]["return_full_text"] else text
            if case.get("original_defect") == "N1":
                assert (text, record["generated_text"].endswith("#")) == ("", True)  # an empty reply is empty here
            else:
                assert whole == record["generated_text"], case["id"]
