"""A run directory that tests open, with a short recipe and manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tunesmith.train.run.directory import RunDirectory

RECIPE = (
    "name: x\ntrain:\n  epochs: 3\n  learning_rate: 1.0e-05\n  log_every: 10\ndata:\n  sources:\n  - path: a.jsonl\n"
)
MANIFEST: dict[str, Any] = {"data": {"key": "abc"}, "seed": 0, "betas": (0.9, 0.95), "hardware": {"cores": 2}}


def open_run(path: Path, recipe: str = RECIPE, **settings: Any) -> RunDirectory:
    return RunDirectory.open(path, recipe, notice=settings.pop("notice", pytest.fail), **settings)


def begin_run(path: Path, recipe: str = RECIPE, **settings: Any) -> None:
    """Open a run, record it, and close it."""
    notice = settings.get("notice", pytest.fail)
    with open_run(path, recipe, **settings) as run:
        run.record(MANIFEST, notice)


def files(path: Path) -> dict[str, bytes]:
    return {str(item.relative_to(path)): item.read_bytes() for item in sorted(path.rglob("*")) if item.is_file()}
