"""2 and 3 processes == 1: the same metrics and the same gradients, with whole models and with sharded ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.processes import run_cases
from tests.train.ranks import CASES, REPLICATED, compute, compute_replicas, gradients
from tunesmith.world import SingleProcess

TOLERANCE = 1e-6
UNSCALED = 3e-6
"""Tolerance for T5, which does not scale its queries: on one processor rounding made a difference of 1.3e-6."""
CANCELLED = 1e-3
"""Of the largest gradient: smaller ones are sums of terms that cancel each other, and whose rounding does not."""


@pytest.fixture(scope="module", params=[2, pytest.param(3, marks=pytest.mark.exhaustive)])
def computed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with what the processes have found."""
    directory = tmp_path_factory.mktemp("processes")
    assert run_cases({"gradients": compute}, request.param, directory) == {}
    return directory / "gradients"


@pytest.fixture(scope="module")
def replicated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As ``computed``, for four processes with two copies of the weights."""
    directory = tmp_path_factory.mktemp("replicas")
    assert run_cases({"replicas": compute_replicas}, 4, directory) == {}
    return directory / "replicas"


def assert_equal_to_one(name: str, *paths: Path) -> None:
    """The metrics and gradients in files are those of one process."""
    alone = gradients(CASES[name](), SingleProcess())
    tolerance = UNSCALED if name == "t5" else TOLERANCE
    largest = max(float(value.abs().max()) for key, value in alone.items() if not key.startswith("metric"))
    for path in paths:
        found = load_file(path)
        assert found.keys() == alone.keys()
        for key, expected in alone.items():
            size = 1.0 if key.startswith("metric") else float(expected.abs().max()) + CANCELLED * largest
            assert torch.allclose(found[key], expected, rtol=tolerance, atol=tolerance * size), (path.name, key)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore")
def test_processes_give_the_metrics_and_gradients_of_one(computed: Path, name: str) -> None:
    assert_equal_to_one(name, *(computed / f"{name}-{kind}.safetensors" for kind in ("none", "zero2", "zero3")))


@pytest.mark.parametrize("name", REPLICATED)
@pytest.mark.filterwarnings("ignore")
def test_two_copies_of_divided_weights_give_the_metrics_and_gradients_of_one_process(
    replicated: Path, name: str
) -> None:
    assert_equal_to_one(name, replicated / f"{name}.safetensors")
