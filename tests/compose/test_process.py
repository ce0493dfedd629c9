"""What a run sets in its process."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

from tunesmith.compose.manifest import hardware
from tunesmith.compose.process import CUBLAS_WORKSPACE, use_deterministic_algorithms


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(CUBLAS_WORKSPACE, raising=False)
    filled = torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = filled


def test_a_gpu_uses_deterministic_algorithms() -> None:
    use_deterministic_algorithms(True, torch.device("cuda"))
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.is_deterministic_algorithms_warn_only_enabled()
    assert not torch.utils.deterministic.fill_uninitialized_memory
    assert os.environ[CUBLAS_WORKSPACE] == ":4096:8"


def test_the_workspace_of_the_user_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CUBLAS_WORKSPACE, ":16:8")
    use_deterministic_algorithms(True, torch.device("cuda"))
    assert os.environ[CUBLAS_WORKSPACE] == ":16:8"


def test_a_recipe_can_allow_other_algorithms() -> None:
    torch.use_deterministic_algorithms(True)
    use_deterministic_algorithms(False, torch.device("cuda"))
    assert not torch.are_deterministic_algorithms_enabled()


def test_nothing_changes_on_a_cpu() -> None:
    use_deterministic_algorithms(True, torch.device("cpu"))
    assert not torch.are_deterministic_algorithms_enabled()
    assert CUBLAS_WORKSPACE not in os.environ


def test_the_manifest_says_whether_a_run_repeats() -> None:
    assert hardware(True, 1)["deterministic"]
    assert hardware(False, 1)["deterministic"] == (torch.cuda.device_count() == 0)
