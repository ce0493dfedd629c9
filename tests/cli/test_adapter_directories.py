"""`chat`, `sample` and `score` read a directory of adapters as the merged export next to it."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

from tests.reward_worlds import judge_recipe
from tests.worlds import small_recipe
from tunesmith.cli import main as command_line
from tunesmith.compose import train_recipe
from tunesmith.recipe.load import LoadedRecipe

ADAPTER = "model.adapter={rank: 4, alpha: 8, learning_rate_factor: 3}"
BASE = ["train.steps=1", "train.evaluate_every=null", "train.save_every=null", "model.resize=none"]


def adapted(root: Path, make: type | object) -> Path:
    """The export of a run of adapters on a model directory."""
    assert callable(make)
    base: LoadedRecipe = make(root, [*BASE, f"run.directory={root}/base-run"])
    shutil.copytree(train_recipe(base).directory / "export", root / "base")
    words = ["model.init=null", f"model.path={root}/base", "train.steps=12", "train.evaluate_every=null", ADAPTER]
    return train_recipe(make(root, words)).directory / "export"


@pytest.fixture(scope="module")
def assistant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return adapted(tmp_path_factory.mktemp("assistant"), small_recipe)


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return adapted(tmp_path_factory.mktemp("judge"), judge_recipe)


def called(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object, given: str = "") -> str:
    """What a command prints to its standard output."""
    monkeypatch.setattr(sys, "argv", ["tunesmith", *map(str, words)])
    monkeypatch.setattr(sys, "stdin", io.StringIO(given))
    with pytest.raises(SystemExit) as caught:
        command_line.main()
    found = capsys.readouterr()
    assert caught.value.code in (0, None), found.err
    return found.out


def test_chat_gives_the_replies_of_the_merged_export(
    assistant: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("temperature=0.5", "max_new_tokens=8", "--seed", "3", "--format", "dolly")
    expected, found, base = (
        called(monkeypatch, capsys, "chat", directory, *words, given="Say red old big.\nSay new.\n")
        for directory in (assistant, assistant / "adapter", assistant.parent.parent / "base")
    )
    assert found.strip()
    assert found == expected
    assert found != base


def test_sample_gives_the_replies_of_the_merged_export(
    assistant: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("Say red old big.\nSay new.\n")
    replies = []
    for name, directory in (("merged", assistant), ("adapter", assistant / "adapter")):
        words = ("--prompts", prompts, "--sampling", "noprefix:nucleus9", "--max-new-tokens", "8")
        called(monkeypatch, capsys, "sample", directory, *words, "-o", tmp_path / name, "--format", "dolly")
        (report,) = (tmp_path / name).glob("*.json")
        replies.append(json.loads(report.read_text())["prompts"])
    assert replies[0] == replies[1]
    assert len(replies[0]) == 2


def test_score_gives_the_scores_of_the_merged_reward_model(
    judge: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lists = judge.parent.parent / "lists.jsonl"
    scores = []
    for directory in (judge, judge / "adapter", judge.parent.parent / "base"):
        out = called(monkeypatch, capsys, "score", directory, lists, "--reader", "ultrafeedback", "--format", "oasst")
        scores.append([json.loads(line)["score"] for line in out.splitlines()])
    assert len(scores[0]) == 180
    assert scores[1] == pytest.approx(scores[0], abs=1e-5)
    assert scores[1] != pytest.approx(scores[2], abs=1e-2)


def test_a_plan_counts_the_base_and_a_run_on_adapters_says_what_its_export_has(
    assistant: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = assistant.parents[1] / "recipe.yaml"
    words = ["model.init=null", f"model.path={assistant / 'adapter'}", ADAPTER, "train.steps=1"]
    out = called(monkeypatch, capsys, "plan", recipe, *words, "--gpu", "h200")
    assert f"(from the base of {assistant / 'adapter'})".replace(" ", "") in out.replace("\n", "").replace(" ", "")
    train_recipe(small_recipe(assistant.parents[1], [*words, f"run.directory={tmp_path}/run"]))
    said = "".join(capsys.readouterr())
    assert "no directory of adapters for peft: the base has adapters already" in said
    assert not (tmp_path / "run/export/adapter").exists()
