"""Checkpoints whose every number is their step, so that a mixture of two steps cannot hide."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from tunesmith.train.run.checkpoint import save
from tunesmith.train.run.checkpoint_files import Checkpoint


def groups(step: int) -> dict[str, dict[str, Tensor]]:
    model = {"a.weight": torch.full((7, 5), float(step)), "b.bias": torch.full((3,), float(step))}
    return {"model": model, "optimizer": {"a.weight.step": torch.tensor(float(step))}}


def save_step(directory: Path, step: int) -> Path:
    return save(directory, step, groups(step), {"step": step, "offset": 100 * step}, {"recipe": "abc"})


def assert_is_step(found: Checkpoint | None, step: int) -> None:
    assert found is not None
    assert found.step == found.state["step"] == step
    for group in ("model", "optimizer"):
        assert all(bool((tensor == step).all()) for tensor in found.load(group).values())
