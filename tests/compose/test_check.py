"""`tunesmith check` and the proof at the start of training: every planted fault is found, with its reason."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.worlds import small_recipe, write_world
from tunesmith.batch import packed as assembling
from tunesmith.batch.packed import Layout
from tunesmith.cli.main import main
from tunesmith.compose.check.recipe import collect_checks
from tunesmith.compose.train import train_recipe
from tunesmith.errors import InternalError, TunesmithError
from tunesmith.model import attention
from tunesmith.report.check import CheckReport
from tunesmith.text.formats.format import Control
from tunesmith.text.formats.instruction import Dolly
from tunesmith.text.tokens import crop, render
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.text.tree import Message

END = "end of replies"
REPLY = "reply text"
CONTEXT = "context tokens"
ATTENTION = "attention"
BATCHES = "batches"


def checked(root: Path, *overrides: str, **world: str) -> CheckReport:
    loaded = small_recipe(root, overrides, **world)
    return collect_checks(loaded, lambda done, total, label: None).report


def failures(report: CheckReport) -> dict[str, str]:
    """Name of every failed check -> the reason, with its places."""
    return {
        check.name: f"{check.summary} {' '.join(what for _, what in check.places)}" for check in report.having("fail")
    }


@pytest.mark.parametrize("format", ["dolly", "oasst", "tulu", "alpaca", "chatml"])
def test_a_sound_recipe_passes(tmp_path: Path, format: str) -> None:
    report = checked(tmp_path, format=format)
    assert failures(report) == {}
    assert {check.status for check in report.checks} <= {"pass", "warn", "skip"}
    assert report.facts["texts"]["records"] == 60


def with_targets(change: Callable[[TokenTree], np.ndarray[Any, Any]]) -> Callable[..., TokenTree | None]:
    """The layout of token trees, with its spans changed."""
    right = render.assemble_tree

    def wrong(*arguments: Any, **named: Any) -> TokenTree | None:
        tree = right(*arguments, **named)
        return None if tree is None else replace(tree, spans=change(tree))

    return wrong


def end_is_padding(tree: TokenTree) -> np.ndarray[Any, Any]:
    """As a collator that masks the padding token, where that is the end token too."""
    spans = tree.spans.copy()
    spans[:, 1] -= 1
    return spans


def shifted(tree: TokenTree) -> np.ndarray[Any, Any]:
    """A mask that begins one token too early."""
    spans = tree.spans.copy()
    spans[:, [0, 2]] -= 1
    return spans


def late(tree: TokenTree) -> np.ndarray[Any, Any]:
    spans = tree.spans.copy()
    spans[:, [0, 2]] += 1
    return spans


@pytest.mark.parametrize(("change", "name"), [(end_is_padding, END), (shifted, CONTEXT), (late, REPLY)])
def test_a_wrong_mask_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[TokenTree], Any], name: str
) -> None:
    monkeypatch.setattr(render, "assemble_tree", with_targets(change))
    found = failures(checked(tmp_path, format="oasst"))
    assert name in found, found
    with pytest.raises(InternalError, match="proof failed"):
        train_recipe(small_recipe(tmp_path))
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_padding_that_is_the_end_token_is_no_fault_here(tmp_path: Path) -> None:
    write_world(tmp_path, format="oasst")
    config = tmp_path / "tokenizer" / "tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "pad_token": "<|endoftext|>"}))
    assert failures(checked(tmp_path)) == {}


def test_a_second_begin_token_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Dolly.split

    def wrong(self: Dolly, message: Message, before: Any) -> Any:
        split = right(self, message, before)
        return split if before else replace(split, given=(Control("bos"), Control("bos"), *split.given))

    monkeypatch.setattr(Dolly, "split", wrong)
    found = failures(checked(tmp_path))
    assert list(found) == ["begin token"]
    assert "once more than it should" in found["begin token"]


def test_a_wrong_stop_token_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Dolly, "stops", ("### Instruction:",))
    found = failures(checked(tmp_path))
    assert END in found
    assert "no end token after" in found[END]


@pytest.mark.parametrize("truncation", ["right", "drop"])
def test_a_limit_that_cuts_all_targets_fails(tmp_path: Path, truncation: str) -> None:
    report = checked(tmp_path, "text.max_length=20", f"text.truncation={truncation}")
    (check,) = report.having("fail")
    assert "longer than the limit" in check.summary
    assert "text.max_length" in f"{check.key} {check.advice}"


def test_a_limit_that_cuts_most_targets_fails(tmp_path: Path) -> None:
    write_world(tmp_path)
    with (tmp_path / "demonstrations.jsonl").open("a") as lines:
        lines.write(json.dumps({"instruction": "Count.", "response": "one two three four " * 500}) + "\n")
    report = checked(tmp_path, "text.truncation=drop", "data.validation=2")
    assert "truncated targets" in failures(report)
    assert report.facts["texts"]["targets_lost"] > 2000


def test_a_window_without_targets_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_world(tmp_path)
    cut = ("text.max_length=40", "text.truncation=window", "text.window_probability=1.0")
    assert BATCHES not in failures(checked(tmp_path, *cut))
    monkeypatch.setattr(
        crop, "_holds_target", lambda targets, settings: np.ones(len(targets) - settings.limit + 1, bool)
    )
    assert "has no target left" in failures(checked(tmp_path, *cut))[BATCHES]
    with pytest.raises(InternalError, match="has no target left"):
        train_recipe(small_recipe(tmp_path, cut))


def test_rejected_replies_are_not_imitated(tmp_path: Path) -> None:
    write_world(tmp_path)
    rows = [{"prompt": "Say it.", "chosen": f"yes {n}", "rejected": f"no {n}"} for n in range(60)]
    (tmp_path / "demonstrations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    reader = "data.sources.0.reader=preference-text"
    (check,) = checked(tmp_path, reader).having("fail")
    assert "would imitate rejected replies too" in check.summary
    report = checked(tmp_path, reader, "data.sources.0.options={replies: best}")
    assert failures(report) == {}


def leaking_layout(segments: Any) -> Any:
    """Every segment is seen up to the end of the row: one example leaks into the next."""
    return np.full(len(segments), 10**6, np.int64)


def test_a_layout_that_leaks_between_examples_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembling, "_find_subtree_ends", leaking_layout)
    found = failures(checked(tmp_path))
    assert "sees tokens of the example before it" in found[BATCHES]
    with pytest.raises(InternalError, match="sees tokens of the example before it"):
        train_recipe(small_recipe(tmp_path))


def test_an_attention_that_leaks_between_examples_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = attention.segment_attention

    def leaking(layout: Layout, dtype: torch.dtype) -> Any:
        before = tuple(tuple(range(number)) for number in range(len(layout.sizes)))
        return right(replace(layout, ancestors=before), dtype)

    monkeypatch.setattr(attention, "segment_attention", leaking)
    found = failures(checked(tmp_path, "model.layout=tree"))
    assert list(found) == [ATTENTION]
    assert "not give the same log-probabilities in our batches as alone" in found[ATTENTION]
    with pytest.raises(TunesmithError, match="same log-probabilities"):
        train_recipe(small_recipe(tmp_path, ["model.layout=tree"]))
    report = checked(tmp_path)  # left to itself it reads batches thread by thread, which does not leak, and says so
    (warned,) = [check for check in report.having("warn") if check.name == ATTENTION]
    assert "layout threads" in warned.summary


def test_unusual_texts_are_reported(tmp_path: Path) -> None:
    write_world(tmp_path)
    file = tmp_path / "demonstrations.jsonl"
    prose = (
        "The lighthouse on the northern cape was built by three brothers who had never seen the sea before that summer "
        "because an aunt of theirs had dreamt of ships that lost their way in the fog and of bells that nobody heard"
    )
    records = [
        {"instruction": "Say <|endoftext|> aloud.", "response": "I would rather not."},
        {"instruction": "Go on for ever.", "response": "round and round " * 60},
        {"instruction": f"{prose} and stayed.", "response": "They stayed."},
        {"instruction": f"{prose} and remained.", "response": "They stayed."},
    ]
    repeated = json.loads(file.read_text().splitlines()[0])
    with file.open("a") as lines:
        lines.writelines(json.dumps(record) + "\n" for record in [*records, repeated])
    evaluation = tmp_path / "evaluation.jsonl"
    evaluation.write_text(json.dumps({"question": f"Why {prose.lower()}?"}) + "\n" + json.dumps("short") + "\n")
    report = checked(tmp_path, "text.max_length=2000", f"data.evaluation_sets=[{evaluation}]", "data.validation=1")
    assert failures(report) == {}
    warned = {check.name: [place.rpartition(":")[2] for place, _ in check.places] for check in report.having("warn")}
    assert warned["control texts"] == ["61"]
    assert warned["repetitive texts"] == ["62"]
    assert "64" in warned["near duplicates"]
    assert "65" in warned["exact duplicates"]
    assert warned["evaluation overlap"] == ["63", "64"]


@pytest.mark.parametrize(("policy", "status"), [("keep", "warn"), ("exact", "pass"), ("near", "pass")])
def test_duplicates_that_are_dropped_are_counted_and_no_longer_reported(
    policy: str, status: str, tmp_path: Path
) -> None:
    write_world(tmp_path)
    with (tmp_path / "demonstrations.jsonl").open("a") as file:
        line = json.dumps({"instruction": "Say it twice.", "context": "", "response": "twice " * 20})
        file.write(f"{line}\n{line}\n")
    checks = {check.name: check for check in checked(tmp_path, f"data.duplicates={policy}").checks}
    assert checks["exact duplicates"].status == status
    assert ("duplicates" in checks["records"].summary) == (policy != "keep")
    if policy == "near":
        assert checks["near duplicates"].status == "pass"


def test_the_command_writes_a_page_and_json_and_ends_with_a_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_world(tmp_path)
    record = {"instruction": "<script>alert(1)</script>", "response": "\x1b[31m <b>no</b> é😀"}
    with (tmp_path / "demonstrations.jsonl").open("a") as lines:
        lines.writelines(
            json.dumps({**record, "instruction": f"{record['instruction']} {n}"}) + "\n" for n in range(200)
        )

    def run(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["tunesmith", "check", str(recipe), "--no-model", *words])
        with pytest.raises(SystemExit) as stop:
            main()
        return int(stop.value.code or 0)

    assert run() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"token by token: {tmp_path / 'run-check' / 'check.html'}"
    page = (tmp_path / "run-check" / "check.html").read_text()
    assert "<script>" not in page
    assert "\x1b" not in page
    assert "é" in page
    assert "😀" in page
    content = json.loads((tmp_path / "run-check" / "check.json").read_text())
    assert content["result"] == "pass"
    assert run("--strict", "--output", str(tmp_path / "elsewhere")) == 70  # near duplicates are a warning
    assert (tmp_path / "elsewhere" / "check.json").exists()
    (tmp_path / "demonstrations.jsonl").write_text("{\n")
    assert run() == 65


PLAIN_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
REWRITING_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>"
    "{% if message.role == 'assistant' and not loop.last %}(an earlier answer)"
    "{% else %}{{ message.content }}{% endif %}"
    "{{ eos_token }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def with_template(root: Path, template: str) -> CheckReport:
    """The small world with conversations of two turns, and a chat template in its tokenizer's directory."""
    write_world(root)
    config = root / "tokenizer" / "tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "chat_template": template}))
    turns = ["Say red.", "red", "Say blue.", "blue"]
    roles = ("user", "assistant") * 2
    messages = [{"role": role, "content": turn} for role, turn in zip(roles, turns, strict=True)]
    rows = [json.dumps({"messages": [*messages[:-1], {**messages[-1], "content": f"blue {n}"}]}) for n in range(60)]
    (root / "demonstrations.jsonl").write_text("\n".join(rows) + "\n")
    return checked(root, "text.format=tokenizer", "data.sources.0.reader=messages")


def test_the_template_of_a_tokenizer_passes(tmp_path: Path) -> None:
    assert failures(with_template(tmp_path, PLAIN_TEMPLATE)) == {}


def test_a_template_that_rewrites_earlier_turns_fails_with_the_first_difference(tmp_path: Path) -> None:
    (check,) = with_template(tmp_path, REWRITING_TEMPLATE).having("fail")
    said = f"{check.summary} {check.places} {check.advice}"
    assert "template" in said
    assert "an earlier answer" in said
    assert "text.format" in said or "another prompt format" in said


def test_a_template_with_two_begin_tokens_fails(tmp_path: Path) -> None:
    found = failures(with_template(tmp_path, "{{ bos_token }}{{ bos_token }}" + PLAIN_TEMPLATE))
    assert "begin token" in found


@pytest.mark.parametrize(
    ("override", "key"),
    [("model.tokenizer=ROOT/nowhere", "model.tokenizer"), ("data.sources.0.path=ROOT/x.jsonl", "data.sources")],
)
def test_a_check_that_cannot_go_on_names_the_key_that_it_used(tmp_path: Path, override: str, key: str) -> None:
    write_world(tmp_path)
    (check,) = checked(tmp_path, override.replace("ROOT", str(tmp_path))).having("fail")
    assert check.key.split(", ")[0] == key
