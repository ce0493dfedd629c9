"""One planted number is found at its step; the campaign plants 300."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from tests.campaigns.fault_worlds import FaultWorld, find_not_finite_files
from tests.campaigns.not_finite import Trial, find_wrong, trials
from tunesmith.compose.train import train_recipe
from tunesmith.recipe.load import load


def test_a_number_is_found_at_its_step_and_the_run_continues_without_it(tmp_path: Path) -> None:
    world = FaultWorld(tmp_path / "world", "sft", ["train.steps=2", "data.validation=0", "train.evaluate_every=null"])
    assert find_wrong(world, Trial("sft", "adamw", "gradient", float("nan"), 2, 0)) == []


def test_the_trials_have_all_places_and_half_of_them_are_in_the_last_step() -> None:
    found = list(trials(300, random.Random(0)))
    assert len({each.place for each in found}) == 16
    assert sum(each.step == 3 for each in found) > 130


def test_a_file_with_a_number_that_is_not_finite_is_found(tmp_path: Path) -> None:
    world = FaultWorld(tmp_path / "world", "sft", ["train.steps=1", "data.validation=0", "train.evaluate_every=null"])
    run = train_recipe(load([str(world.recipe)], world.keys)).directory
    assert find_not_finite_files(run) == []
    path = run / "export" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-4:] = bytes(torch.tensor([float("nan")]).view(torch.uint8).tolist())
    path.write_bytes(content)
    assert find_not_finite_files(run) == ["export/model.safetensors"]


@pytest.mark.parametrize("value", ["inf"])
def test_weights_that_are_not_finite_are_named_before_they_are_evaluated(tmp_path: Path, value: str) -> None:
    """An evaluation could end in a traceback, as that of a reward model did, or name neither step nor weight."""
    world = FaultWorld(tmp_path / "world", "reward", ["train.steps=2", "train.evaluate_every=1"])
    assert find_wrong(world, Trial("reward", "adamw", "moment before", float(value), 2, 7)) == []
