"""Optimizers on parameters that are sharded over processes update them as one process does."""

from __future__ import annotations

import pytest

from tests.processes import run_cases
from tests.train.optim.sharded_cases import CASES


@pytest.fixture(scope="module", params=[2, pytest.param(3, marks=pytest.mark.exhaustive)])
def failures(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Case -> why it failed in two or three processes."""
    return run_cases(CASES, request.param, tmp_path_factory.mktemp("sharded"))


@pytest.mark.parametrize("case", CASES)
def test_sharded_parameters_in_several_processes(failures: dict[str, str], case: str) -> None:
    assert case not in failures, failures[case]
