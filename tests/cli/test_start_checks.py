"""What is missing is said at once: before torch is imported, and before anything is written."""

from __future__ import annotations

import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from tests.worlds import ppo_recipe, preference_recipe, small_recipe
from tunesmith.cli.start_checks import check_start
from tunesmith.errors import MissingInputError, RecipeError, StorageError
from tunesmith.train.run import tracker_packages

Usage = namedtuple("Usage", "total used free")


def test_a_recipe_that_can_start_passes_and_nothing_is_written(tmp_path: Path) -> None:
    check_start(small_recipe(tmp_path).recipe)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["data.sources.0.path=/nowhere/mine.jsonl"], "/nowhere/mine.jsonl: the path does not exist"),
        (["data.sources.0.path=mine.jsonl"], "mine.jsonl: the path does not exist"),
        (["model.tokenizer=/nowhere"], "model.tokenizer /nowhere: the path does not exist"),
        (["model.init=null", "model.path=./nowhere"], "model.path ./nowhere: the path does not exist"),
    ],
)
def test_a_path_that_does_not_exist_is_named_with_its_key(words: list[str], expected: str, tmp_path: Path) -> None:
    with pytest.raises(MissingInputError) as caught:
        check_start(small_recipe(tmp_path, words).recipe)
    assert expected in str(caught.value)


def test_reference_and_reward_models_are_looked_at_too(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"objective\.reference /nowhere: the path does not exist"):
        check_start(preference_recipe(tmp_path / "dpo", ["objective.reference=/nowhere"]).recipe)
    with pytest.raises(MissingInputError, match=r"objective\.rewards\.0 /nowhere: the path does not exist"):
        check_start(ppo_recipe(tmp_path / "ppo", ["objective.rewards.0.path=/nowhere"]).recipe)


@pytest.mark.parametrize("name", ["gpt2", "owner/model-1.5", "HuggingFaceTB/SmolLM2-135M"])
def test_a_name_of_the_hub_is_not_looked_up_yet(name: str, tmp_path: Path) -> None:
    check_start(small_recipe(tmp_path, ["model.init=null", f"model.path={name}", "model.tokenizer=null"]).recipe)


def test_a_tracker_whose_package_is_missing_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker_packages, "PACKAGES", {"wandb": "a_package_that_nobody_has"})
    with pytest.raises(RecipeError, match=r"run\.trackers: the tracker 'wandb' needs the package"):
        check_start(small_recipe(tmp_path, ["run.trackers=[wandb]"]).recipe)


def test_a_run_directory_that_cannot_be_written_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    refused(tmp_path, [f"run.directory={tmp_path}/file/run"], "file: this is not a directory")
    with monkeypatch.context() as patched:
        patched.setattr(os, "access", lambda *_: False)
        refused(tmp_path, [], "you may not write here; choose another run.directory")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10, 10, 0))
    refused(tmp_path, [], "the disk is full (0 bytes are free); free disk space")


def refused(root: Path, words: list[str], expected: str) -> None:
    with pytest.raises(StorageError) as caught:
        check_start(small_recipe(root, words).recipe)
    assert expected in str(caught.value)
    assert not (root / "run").exists()
