"""A run does not continue from records that were changed while it was stopped."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.worlds import ppo_recipe, small_recipe
from tunesmith.compose import train_recipe
from tunesmith.errors import StoppedError, StorageError

KEYS = ["train.steps=6", "train.save_every=2", "train.evaluate_every=2"]
RUNS: dict[str, Callable[..., Any]] = {"sft": small_recipe, "ppo": ppo_recipe}
# What is changed, and into what: a digit of a number that is read back, a bracket, a line end, and the whole file.
CHANGES: dict[str, tuple[str, str, bytes, bytes]] = {
    "loss of an evaluation": ("sft", "metrics.jsonl", b'"loss": 5', b'"loss": 4'),
    "bracket": ("sft", "metrics.jsonl", b"{", b"["),
    "line end": ("sft", "metrics.jsonl", b"}\n{", b"} {"),
    "examples": ("sft", "consumed.jsonl", b'"epoch": 0', b'"epoch": 3'),
    "empty": ("sft", "consumed.jsonl", b"{", b""),
    "divergence": ("ppo", "metrics.jsonl", b".", b"5"),
}
AFTER = {"divergence": b'"kl": '}  # where the place is looked for


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Method -> the root of a run that was stopped after step 4."""
    torch.set_num_threads(1)
    roots = {}
    for method, recipe in RUNS.items():
        roots[method] = tmp_path_factory.mktemp(method)
        with pytest.raises(StoppedError):
            train_recipe(recipe(roots[method], [*KEYS, "train.stop_after=4"]))
    return roots


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_record_is_named(change: str, stopped: dict[str, Path], tmp_path: Path) -> None:
    method, name, old, new = CHANGES[change]
    run = tmp_path / "run"
    shutil.copytree(stopped[method] / "run", run)
    content = (run / name).read_bytes()
    place = content.index(old, content.index(AFTER.get(change, old)))
    changed = content[:place] + new + content[place + len(old) :]
    (run / name).write_bytes(changed if new else b"")
    damaged = (run / name).read_bytes()
    with pytest.raises(StorageError, match=rf"{name}: .*restore") as error:
        train_recipe(RUNS[method](stopped[method], [*KEYS, f"run.directory={run}"]))
    assert error.value.exit_code == 74
    assert damaged.startswith((run / name).read_bytes())  # nothing but an incomplete last line was removed
    (run / name).write_bytes(content)
    train_recipe(RUNS[method](stopped[method], [*KEYS, f"run.directory={run}"]))
