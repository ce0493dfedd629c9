"""The self-test of a model that is divided among processes finds what that of a whole model finds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.processes import run_cases
from tests.verify.sharded_cases import CASES


@pytest.mark.parametrize("size", [2, pytest.param(3, marks=pytest.mark.exhaustive)])
def test_divided_models_are_tested_like_whole_ones(size: int, tmp_path: Path) -> None:
    assert run_cases(CASES, size, tmp_path) == {}
