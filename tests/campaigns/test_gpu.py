"""The script for a GPU runs on a CPU at a small size, and a figure that cannot be measured is missed."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from tests.campaigns import gpu
from tests.campaigns.gpu_figures import Campaign
from tests.campaigns.gpu_speed import SHAPES
from tests.conftest import REPOSITORY

needs_trl = pytest.mark.skipif(find_spec("trl") is None, reason="TRL is not installed")


@pytest.mark.slow
def test_the_rehearsal_measures_every_section_and_meets_its_targets(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.campaigns.gpu", "--cpu-rehearsal", "--json", str(tmp_path / "figures")]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        command, check=False, timeout=600, env=environment, cwd=REPOSITORY, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    figures = json.loads((tmp_path / "figures").read_text())
    names = [each["what"] for each in figures]
    assert {f"section {name}" for name in gpu.SECTIONS} <= {*names}
    assert not [each for each in figures if each["passed"] is False]
    for shape in SHAPES:
        assert {f"{shape.name}: {what}" for what in ("peak", "tokens/s", "loss")} <= {*names}
    if find_spec("trl") is not None:
        assert {f"{shape.name} with TRL: tokens/s" for shape in SHAPES[:2]} <= {*names}


@needs_trl
def test_a_trainer_that_fails_is_a_missed_figure_with_its_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = importlib.import_module("tests.campaigns.gpu_peer")

    def fail(*_: object) -> float:
        raise ValueError("no such setting")

    monkeypatch.setattr(peer, "_rate", fail)
    monkeypatch.setattr(sys, "argv", ["gpu", "--cpu-rehearsal", "--only", "trl"])
    found = gpu.measure(Campaign(torch.device("cpu"), rehearsal=True), ["trl"])
    missed = [each for each in found if each.passed is False]
    assert [each.found for each in missed] == ["ValueError: no such setting"] * 2
    with pytest.raises(SystemExit, match="2 targets are missed"):
        gpu.main()
