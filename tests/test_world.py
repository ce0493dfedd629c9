"""2 and 3 processes == 1: the same metrics and the same gradients, with whole models and with sharded ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.processes import run_cases
from tests.train.ranks import CASES, compute, gradients
from tunesmith.world import SingleProcess

TOLERANCE = 1e-6
CANCELLED = 1e-3
"""Of the largest gradient: smaller ones are sums of terms that cancel each other, and whose rounding does not."""


@pytest.fixture(scope="module", params=[2, 3])
def computed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with what the processes have found."""
    directory = tmp_path_factory.mktemp("processes")
    assert run_cases({"gradients": compute}, request.param, directory) == {}
    return directory / "gradients"


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore")
def test_processes_give_the_metrics_and_gradients_of_one(computed: Path, name: str) -> None:
    alone = gradients(CASES[name](), SingleProcess())
    largest = max(float(value.abs().max()) for key, value in alone.items() if not key.startswith("metric"))
    for kind in ("none", "zero2", "zero3"):
        found = load_file(computed / f"{name}-{kind}.safetensors")
        assert found.keys() == alone.keys()
        for key, expected in alone.items():
            size = 1.0 if key.startswith("metric") else float(expected.abs().max()) + CANCELLED * largest
            assert torch.allclose(found[key], expected, rtol=TOLERANCE, atol=TOLERANCE * size), (kind, key)
