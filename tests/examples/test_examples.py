"""The programs in examples/ give the same bits as `tunesmith train` on the same recipe."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.conftest import REPOSITORY
from tests.worlds import small_recipe, write_preferences
from tunesmith.compose import train_recipe
from tunesmith.recipe.load import load

sys.path.insert(0, str(REPOSITORY / "examples"))
import dpo_loop
import sft_loop
import walkthrough

ALIKE = ("model.residual_dropout=0", "data.validation=0", "train.evaluate_every=null", "train.save_every=null")


def assert_same_tensors(one: Path, other: Path) -> None:
    expected, found = (load_file(directory / "model.safetensors") for directory in (one, other))
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert tensor.equal(found[name]), name


def test_the_loop_of_supervised_fine_tuning_gives_the_bits_of_the_command(tmp_path: Path) -> None:
    trained = train_recipe(small_recipe(tmp_path, ALIKE, architecture="llama"))
    sft_loop.sft(tmp_path / "demonstrations.jsonl", tmp_path / "tokenizer", tmp_path / "output", sft_loop.Settings())
    assert_same_tensors(trained.export, tmp_path / "output")


def write_pairs(path: Path) -> None:
    """Preference pairs as lists of messages, from the rankings of the small world."""
    lines = []
    for line in (path.parent / "rankings.jsonl").read_text().splitlines():
        record = json.loads(line)
        question = {"role": "user", "content": record["prompt"].split("Human: ")[1].split("\n\n")[0]}
        chosen, rejected = ({"role": "assistant", "content": each["answer"]} for each in record["answers"][:2])
        lines.append(json.dumps({"chosen": [question, chosen], "rejected": [question, rejected]}))
    path.write_text("\n".join(lines) + "\n")


def test_the_loop_of_direct_preference_optimization_gives_the_bits_of_the_command(tmp_path: Path) -> None:
    write_preferences(tmp_path, architecture="llama")
    pairs = tmp_path / "pairs.jsonl"
    write_pairs(pairs)
    words = [*ALIKE, f"data.sources=[{{path: {pairs}, reader: preference}}]", "text.format=tulu"]
    trained = train_recipe(load([str(tmp_path / "recipe.yaml")], words))
    dpo_loop.dpo(pairs, tmp_path / "tokenizer", tmp_path / "output", dpo_loop.Settings())
    assert_same_tensors(trained.export, tmp_path / "output")


@pytest.mark.slow
def test_the_walk_through_the_public_functions_ends_with_a_reply(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_preferences(tmp_path, architecture="llama")
    lines = []
    for line in (tmp_path / "rankings.jsonl").read_text().splitlines():
        record = json.loads(line)
        chosen, rejected = (each["answer"] for each in record["answers"][:2])
        question = record["prompt"].split("Human: ")[1].split("\n\n")[0]
        lines.append(json.dumps({"prompt": question, "chosen": chosen, "rejected": rejected}))
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("\n".join(lines) + "\n")
    reply = walkthrough.walk(tmp_path / "demonstrations.jsonl", pairs, tmp_path / "tokenizer", tmp_path / "output", 4)
    printed = capsys.readouterr().out
    assert f"reply: {reply}" in printed
    assert "learning rate: 0.01 given by command line" in printed
    assert "mean reward: " in printed
