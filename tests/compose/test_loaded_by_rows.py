"""A run whose model each process loads its rows of has the record and the export of one whose model is loaded whole."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
import yaml

from tests.reward_worlds import judge_recipe
from tests.train.launched import run_launched
from tests.verify.test_self_test import kernels_of_cuda, sees_what_follows
from tests.worlds import ARCHITECTURES, ppo_recipe, preference_recipe, small_recipe
from tunesmith.compose import train_recipe
from tunesmith.errors import RecipeError, StoppedError
from tunesmith.model import backbone, opening
from tunesmith.model.load import new_model
from tunesmith.model.reward_model import load_reward_model, new_reward_model
from tunesmith.recipe.load import LoadedRecipe

STEPS = ("train.steps=3", "train.evaluate_every=2", "train.save_every=2", "evaluate.show=0")
PORTS = "ports"
"""File with free ports at which the processes of one run after another meet."""
FEW_ROWS = 200
"""Rows of the embeddings in the files: fewer than the tokenizers have tokens."""


def write_base(root: Path, name: str, architecture: str, *, scores: bool = False, **sizes: Any) -> str:
    """Write a model in bfloat16, if it is not there yet, and return its directory."""
    init = {**yaml.safe_load(ARCHITECTURES[architecture]), **sizes}
    if not (config := root / name / "config.json").is_file():
        model = new_reward_model(init, FEW_ROWS, 7) if scores else new_model(init, FEW_ROWS, 7)
        model.to(torch.bfloat16).save_pretrained(config.parent, max_shard_size="20KB")
    return str(config.parent)


def write_reference(root: Path) -> str:
    """Write another model with the same tokenizer, and return the word that makes it the reference."""
    if not (directory := root / "reference").is_dir():
        shutil.copytree(root / "tokenizer", directory)
        new_model(yaml.safe_load(ARCHITECTURES["llama"]), 448, 8).save_pretrained(directory)
    return f"objective.reference={directory}"


def round_reward_model(root: Path) -> None:
    """Write the files of PPO, with a reward model in bfloat16.

    Numbers in float32 stay in the file that is mapped to memory. There they begin at any multiple of 8 bytes, and the
    product of states and head has other last digits than in memory of its own.
    """
    if not (root / "recipe.yaml").exists():
        ppo_recipe(root)
        load_reward_model(str(root / "reward-model")).to(torch.bfloat16).save_pretrained(root / "reward-model")


def started(root: Path, words: Sequence[str], architecture: str, **sizes: Any) -> list[str]:
    """The words with which a recipe starts from a model in files, whose embedding gets further rows."""
    return [*words, "model.init=null", f"model.path={write_base(root, 'base', architecture, **sizes)}"]


def neox(root: Path, words: Sequence[str]) -> LoadedRecipe:
    return small_recipe(root, started(root, words, "gpt_neox"), architecture="gpt_neox")


def tied_llama(root: Path, words: Sequence[str]) -> LoadedRecipe:
    halves = ("train.shard=zero2", "model.dtype=bfloat16", "model.gradient_checkpointing=true")
    return small_recipe(root, started(root, [*words, *halves], "llama", tie_word_embeddings=True))


def t5(root: Path, words: Sequence[str]) -> LoadedRecipe:
    return small_recipe(root, started(root, words, "t5"), architecture="t5")


def tied_t5(root: Path, words: Sequence[str]) -> LoadedRecipe:
    return small_recipe(root, started(root, words, "t5", tie_word_embeddings=True), architecture="t5")


def dpo(root: Path, words: Sequence[str]) -> LoadedRecipe:
    return preference_recipe(root, started(root, words, "llama"))


def separate_dpo(root: Path, words: Sequence[str]) -> LoadedRecipe:
    """The reference is another model, whose embedding has more rows than there are tokens."""
    preference_recipe(root)
    return preference_recipe(root, [*started(root, words, "llama"), write_reference(root)])


def ppo(root: Path, words: Sequence[str]) -> LoadedRecipe:
    """Reference and value function begin as copies of the policy, next to a reward model."""
    round_reward_model(root)
    return ppo_recipe(root, started(root, words, "llama"))


def ppo_of_others(root: Path, words: Sequence[str]) -> LoadedRecipe:
    """The value function begins as a reward model, and the reference is another model."""
    round_reward_model(root)
    others = write_reference(root), "model.dtype=bfloat16"
    return ppo_recipe(root, [*started(root, words, "llama"), *others], value=f"{root}/reward-model")


def reward(root: Path, words: Sequence[str]) -> LoadedRecipe:
    return judge_recipe(root, started(root, words, "llama"))


def further_reward(root: Path, words: Sequence[str]) -> LoadedRecipe:
    """A reward model that is trained further."""
    judge_recipe(root, architecture="gpt_neox")
    if not (directory := root / "base").is_dir():
        shutil.copytree(root / "tokenizer", directory)
    return judge_recipe(root, started(root, words, "gpt_neox", scores=True))


RECIPES: Mapping[str, Callable[[Path, Sequence[str]], LoadedRecipe]] = {
    "neox": neox,
    "tied_llama": tied_llama,
    "t5": t5,
    "tied_t5": tied_t5,
    "dpo": dpo,
    "separate_dpo": separate_dpo,
    "ppo": ppo,
    "ppo_of_others": ppo_of_others,
    "reward": reward,
    "further_reward": further_reward,
}


def train_three_times(rank: int, directory: Path) -> None:
    """By rows, by rows with a stop, and whole."""
    by_rows = opening.load_rows

    def watched(*arguments: Any) -> Any:
        model = by_rows(*arguments)
        assert model is not None, "its files hold the weights one by one"
        with (directory / f"loaded-{rank}").open("a") as file:
            file.write("x")
        return model

    def whole(*arguments: Any) -> None:
        """The files do not hold the weights one by one."""

    runs = (("rows", watched, None), ("stopped", watched, 1), ("stopped", watched, None), ("whole", whole, None))
    for (run, load, stop), port in zip(runs, (directory / PORTS).read_text().split(), strict=True):
        os.environ["MASTER_PORT"] = port
        words = [*STEPS, f"run.directory={directory / run}", f"train.stop_after={'null' if stop is None else stop}"]
        with patch.object(opening, "load_rows", load), suppress(*(() if stop is None else (StoppedError, SystemExit))):
            train_recipe(RECIPES[directory.name](directory, words))


def train_with_a_fault(rank: int, directory: Path) -> None:
    """The attention of all processes sees what follows."""
    with patch.object(backbone, "prepare", kernels_of_cuda(flex=sees_what_follows)):
        train_recipe(reward(directory, [*STEPS, f"run.directory={directory / 'run'}"]))


def test_a_fault_in_all_processes_is_refused_by_all_and_printed_once(tmp_path: Path) -> None:
    reward(tmp_path, STEPS)
    ended = run_launched(train_with_a_fault, 2, tmp_path)
    assert [each.code for each in ended] == [RecipeError.exit_code] * 2, ended
    assert sum(each.text.count("FlexAttention is wrong on cpu") for each in ended) == 1
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


QUICK = ("neox", "reward")
"""The others are run by `make ranks`."""


@pytest.mark.parametrize(
    ("kind", "size"),
    [pytest.param(kind, 2, marks=() if kind in QUICK else (pytest.mark.processes,)) for kind in RECIPES]
    + [pytest.param("neox", 3, marks=pytest.mark.processes)],
)
def test_the_record_is_that_of_a_model_that_every_process_loads_whole(kind: str, size: int, tmp_path: Path) -> None:
    directory = tmp_path / kind
    RECIPES[kind](directory, STEPS)  # its files are there before the processes are
    with ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(4)]
        (directory / PORTS).write_text(" ".join(str(server.getsockname()[1]) for server in servers))
    ended = run_launched(train_three_times, size, directory)
    assert [each.code for each in ended] == [0] * size, ended
    loaded = {"separate_dpo": 2, "ppo": 2, "ppo_of_others": 4}.get(kind, 1)
    assert [(directory / f"loaded-{rank}").read_text() for rank in range(size)] == [3 * loaded * "x"] * size
    for file in ("metrics.jsonl", "export/model.safetensors"):
        expected = (directory / "whole" / file).read_bytes()
        for run in ("rows", "stopped"):
            assert (directory / run / file).read_bytes() == expected, (run, file)
