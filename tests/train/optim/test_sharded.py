"""Optimizers on parameters that are sharded over processes update them as one process does."""

from __future__ import annotations

import pytest

from tests.processes import run_cases
from tests.train.optim.sharded_cases import CASES


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, str]]:
    """Number of processes -> case -> why it failed."""
    return {size: run_cases(CASES, size, tmp_path_factory.mktemp("sharded")) for size in (2, 3)}


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("case", CASES)
def test_sharded_parameters_in_several_processes(failures: dict[int, dict[str, str]], case: str, size: int) -> None:
    assert case not in failures[size], failures[size][case]
