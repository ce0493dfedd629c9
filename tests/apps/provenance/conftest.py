"""One finished run of each method, which tests copy and change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.runs import train_small_run


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """sft, dpo or ppo -> the world of a finished run, which is in ``run``."""
    made: dict[str, Path] = {}

    def find(method: str) -> Path:
        if method not in made:
            made[method] = tmp_path_factory.mktemp(method)
            train_small_run(made[method], method)
        return made[method]

    return find
