"""Against recorded outputs of the systems whose formats these are. Where ours differs, the test says how."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tunesmith.errors import DataError
from tunesmith.text.render import Renderer
from tunesmith.text.token_tree import TokenTree
from tunesmith.text.tree import Message, Role, Tree
from tunesmith.text.truncate import Rejected, truncate

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


def test_dolly_training_records(golden: Golden, real: RealRenderer) -> None:
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


def test_dolly_batches_and_datasets(golden: Golden, real: RealRenderer) -> None:
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
        assert used == {*case["expected"]["train"], *case["expected"]["test"]}


def test_dolly_refuses_what_the_original_refuses(golden: Golden, real: RealRenderer) -> None:
    renderer = real("dolly", "pythia")
    for case in cases(golden("dolly"), "error"):
        record = case["input"]
        if record["instruction"] and record["response"]:
            tree = renderer.render(dolly_tree(record))
            assert truncate(tree, case["settings"]["max_length"], "right") == Rejected("too_long")
        else:
            with pytest.raises(DataError, match="an empty"):
                renderer.render(dolly_tree(record))


def test_dolly_prompts(golden: Golden, real: RealRenderer) -> None:
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


def test_dolly_replies(golden: Golden, real: RealRenderer) -> None:
    """Our replies are parsed without their prompt, so cases about keys missing from or planted in it say nothing here."""
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


def chat(messages: list[dict[str, str]]) -> list[Message]:
    roles: dict[str, Role] = {"user": "user", "assistant": "assistant", "system": "system"}
    return [Message(roles[message["role"]], message["content"]) for message in messages]


def test_tulu_templates_and_open_instruct(golden: Golden, real: RealRenderer) -> None:
    compared = 0
    for case in cases(golden("tulu"), "template", "oi_sft"):
        config, expected = case["settings"], case["expected"]
        defect, text = case.get("original_defect"), str(case["input"]["messages"])
        unknown = any(message["role"] not in ("system", "user", "assistant") for message in case["input"]["messages"])
        if "raises" in expected or unknown or "</s>" in text or defect in ("N14", "N15"):
            continue
        renderer = real("tulu", "llama", bos=config["add_bos"], strip=False)
        messages = chat(case["input"]["messages"])
        if config.get("function", "").startswith("last_turn"):
            messages[:-1] = [replace(message, trained=False) for message in messages[:-1]]
        if config.get("add_generation_prompt"):
            if messages[-1].role == "user":  # after a reply the template forgets the line break
                assert renderer.prompt(messages) == expected["input_ids"], case["id"]
            continue
        tree = renderer.render(Tree.path(messages))
        ids = tree.ids.tolist()
        if case["kind"] == "template":
            assert ids == expected["input_ids"], case["id"]
            continue
        assert ids[: config["max_seq_length"]] == expected["input_ids"], case["id"]
        if defect == "N16" or (not expected["kept"] and [m.role for m in messages][-2:] == ["assistant"] * 2):
            continue  # a header that follows neither user nor system is trained, or the row is dropped
        assert labels(tree)[: config["max_seq_length"]] == expected["labels"], case["id"]
        kept = truncate(tree, config["max_seq_length"], "right")
        assert isinstance(kept, TokenTree) == expected["kept"], case["id"]
        compared += 1
    assert compared > 15


def test_tulu_as_easylm_trains_it(golden: Golden, real: RealRenderer) -> None:
    renderer = real("tulu", "llama", foretell_line_break=True)
    compared = 0
    for case in cases(golden("tulu"), "easylm_sft"):
        expected, length = case["expected"], case["settings"]["seq_length"]
        text = str(case["input"].get("messages"))
        if "raises" in expected or "</s>" in text:
            continue
        messages = chat(case["input"]["messages"])
        tree = renderer.render(Tree.path(messages))
        ids, wanted = tree.ids[:length].tolist(), labels(tree)[:length]
        if messages[-1].role != "assistant":  # the original strips the end of the whole text
            ids, wanted = ids[: len(expected["input_ids"])], wanted[: len(expected["labels"])]
        assert ids == expected["input_ids"], case["id"]
        if case.get("original_defect") == "N16":
            continue  # there the header of a reply that follows no question is trained
        assert wanted[1:] == expected["labels"][1:], case["id"]
        compared += 1
    assert compared > 40


def test_tulu_preferences_as_trees(golden: Golden, real: RealRenderer) -> None:
    """A preference pair is one prompt with two replies; each thread has the tokens that the original gives the pair."""
    renderer = real("tulu", "llama")
    compared = 0
    for case in cases(golden("tulu"), "easylm_preference"):
        record, expected, length = case["input"], case["expected"], case["settings"]["seq_length"]
        if "raises" in expected or "</s>" in str(record) or expected.get("truncated"):
            continue
        chosen, rejected = chat(record["chosen"]), chat(record["rejected"])
        if chosen[:-1] != rejected[:-1]:
            continue
        shared = [replace(message, trained=False) for message in chosen[:-1]]
        parents = [*range(-1, len(shared) - 1), len(shared) - 1, len(shared) - 1]
        tree = renderer.render(Tree((*shared, chosen[-1], rejected[-1]), tuple(parents)))
        targets = set(tree.targets().tolist())
        for end, side in zip(tree.ends(), ("chosen", "rejected"), strict=True):
            path = tree.thread(end)
            mask = [float(token in targets) for token in path.tolist()]
            size = min(len(path), length)
            assert tree.ids[path].tolist()[:size] == expected[f"{side}_input_ids"][:size], case["id"]
            assert mask[1:size] == expected[f"{side}_loss_mask"][1:size], case["id"]
        compared += 1
    assert compared >= 3
