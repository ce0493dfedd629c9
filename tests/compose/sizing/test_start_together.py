"""Processes that start together check their memory together: as srun starts them, and with equally many passes."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.runs import digests
from tests.train.launched import Ended, run_launched
from tests.train.test_probe import Meter
from tests.worlds import ppo_recipe, preference_recipe, small_recipe
from tunesmith.compose import train_recipe
from tunesmith.compose.sizing import start
from tunesmith.compose.sizing.hardware import GPUS, Gpu
from tunesmith.compose.sizing.run import DataCounts, size_run
from tunesmith.compose.sizing.settings import Distribution
from tunesmith.errors import RecipeError

RECIPES = {"sft": small_recipe, "dpo": preference_recipe, "ppo": ppo_recipe}
WORDS = ("train.steps=2", "train.evaluate_every=null", "train.save_every=null", "evaluate.show=0")
ONE_EXAMPLE = ("train.batch_size=1",)
"""Then one of two processes has no batch of its own in a step."""


def as_srun(rank: int) -> None:
    """The variables of srun in place of those of torchrun."""
    size = os.environ["WORLD_SIZE"]
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        del os.environ[name]
    os.environ |= {"SLURM_PROCID": str(rank), "SLURM_STEP_NUM_TASKS": size, "SLURM_LOCALID": str(rank)}


def pretend_gpu(gpu: Gpu, *shares: int) -> None:
    """A process whose GPU is this one, and whose meter shows one of these shares (%) by its rank."""
    rank = int(os.environ.get("SLURM_PROCID") or os.environ["RANK"])
    start.present_gpu = lambda: gpu
    start.CudaMeter = lambda device: Meter(bytes=shares[rank])  # type: ignore[assignment]


def train_probed(rank: int, directory: Path) -> None:
    as_srun(rank)
    pretend_gpu(GPUS["h200"], 50, 60)
    make = RECIPES[directory.name]
    extra = () if directory.name == "ppo" else ONE_EXAMPLE
    train_recipe(make(directory, [*WORDS, *extra, f"run.directory={directory}/probed"]))


def train_plain(rank: int, directory: Path) -> None:
    extra = () if directory.name == "ppo" else ONE_EXAMPLE
    train_recipe(RECIPES[directory.name](directory, [*WORDS, *extra, f"run.directory={directory}/plain"]))


@pytest.mark.parametrize("kind", ["sft", *(pytest.param(each, marks=pytest.mark.processes) for each in ("dpo", "ppo"))])
def test_a_probe_in_all_processes_changes_no_bit(kind: str, tmp_path: Path) -> None:
    directory = tmp_path / kind
    for target in (train_plain, train_probed):
        ended = run_launched(target, 2, directory)
        assert [each.code for each in ended] == [0, 0], ended
    assert digests(directory / "probed") == digests(directory / "plain")
    said = (directory / "output-0").read_text()
    assert "tokens a second on each of 2 GPUs" in said
    assert "; 2 processes, train.shard zero3\n" in said


def train_on_small_gpus(rank: int, directory: Path) -> None:
    """GPUs that have too little memory for one process, and enough for two; a third of that for none."""
    as_srun(rank)
    loaded = small_recipe(directory, [*WORDS, f"run.directory={directory}/run"])
    run = size_run(loaded.recipe, DataCounts())
    one, two = (run.memory(spread).tensors for spread in (Distribution(), Distribution(2, "zero3")))
    assert two < one
    memory = (one + two) // 2 if directory.name == "enough" else two // 2
    pretend_gpu(replace(GPUS["h200"], memory=memory), 50, 60)
    train_recipe(loaded)


def check_said_once(ended: list[Ended], text: str, rank: int) -> None:
    assert [each.code for each in ended] == [RecipeError.exit_code] * 2, ended
    assert text in ended[rank].text
    assert sum("error: " in each.text for each in ended) == 1, ended


def test_what_fits_on_two_gpus_is_not_refused_under_srun(tmp_path: Path) -> None:
    ended = run_launched(train_on_small_gpus, 2, tmp_path / "enough")
    assert [each.code for each in ended] == [0, 0], ended


def test_what_does_not_fit_is_refused_once_and_all_processes_end(tmp_path: Path) -> None:
    ended = run_launched(train_on_small_gpus, 2, tmp_path / "little")
    check_said_once(ended, "each of 2 processes needs", 0)
    assert not (tmp_path / "little" / "run" / "recipe.yaml").exists()


def train_with_a_large_batch(rank: int, directory: Path) -> None:
    pretend_gpu(GPUS["h200"], 50, 97)
    train_recipe(small_recipe(directory, [*WORDS, f"run.directory={directory}/run"]))


def train_out_of_memory(rank: int, directory: Path) -> None:
    pretend_gpu(GPUS["h200"], 50, 50)
    if rank == 1:

        def fail(*arguments: object) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory")

        start.MemoryProbe._pass = fail  # type: ignore[method-assign, assignment]
    train_recipe(small_recipe(directory, [*WORDS, f"run.directory={directory}/run"]))


def test_the_process_that_needs_most_is_judged_by_the_first_one(tmp_path: Path) -> None:
    check_said_once(run_launched(train_with_a_large_batch, 2, tmp_path), "needs 97 % of the", 0)


def test_a_process_without_enough_memory_ends_the_others_that_wait_in_a_pass(tmp_path: Path) -> None:
    ended = run_launched(train_out_of_memory, 2, tmp_path)
    check_said_once(ended, "needs more than the", 1)
    assert "(rank 1 of 2)" in ended[1].text
