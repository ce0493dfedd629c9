"""Runs that train adapters: they learn, resume to the bit, save little, and export stock models and PEFT files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.runs import digests
from tests.worlds import ppo_recipe, preference_recipe, small_recipe
from tunesmith.compose import train_recipe
from tunesmith.errors import StoppedError
from tunesmith.recipe.load import LoadedRecipe

Recipe = Callable[..., LoadedRecipe]
LORA = ["model.adapter={rank: 4, alpha: 8, learning_rate_factor: 3}"]
SHORT = [*LORA, "train.steps=5", "train.evaluate_every=3", "train.save_every=null"]
BF16 = [*SHORT, "model.dtype=bfloat16", "model.adapter.base=bfloat16"]

CASES: list[tuple[Recipe, str, list[str]]] = [
    (small_recipe, "gpt_neox", [*BF16, "run.export=best", "model.gradient_checkpointing=true"]),
    (small_recipe, "t5", [*SHORT, "train.optimizer={kind: adafactor}"]),
    (small_recipe, "llama", [*SHORT, "train.moments=8bit", "train.optimizer={kind: muon}"]),
    (preference_recipe, "llama", SHORT),
    (ppo_recipe, "llama", SHORT),
]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize(("make", "architecture", "words"), CASES)
def test_a_run_that_was_stopped_ends_as_if_never_stopped(
    make: Recipe, architecture: str, words: list[str], tmp_path: Path
) -> None:
    whole = train_recipe(make(tmp_path, [*words, f"run.directory={tmp_path}/a"], architecture=architecture)).directory
    with pytest.raises(StoppedError):
        train_recipe(make(tmp_path, [*words, f"run.directory={tmp_path}/b", "train.stop_after=2"]))
    again = train_recipe(make(tmp_path, [*words, f"run.directory={tmp_path}/b"])).directory
    assert digests(again) == digests(whole)
    saved = load_file(whole / "checkpoints" / "step-000005" / "model.safetensors")
    assert all(".adapter." in name for name in saved)
