"""Every process of a machine uses its own GPU."""

from __future__ import annotations

import pytest
import torch

from tunesmith.errors import UsageError
from tunesmith.model.devices import best_device, choose_gpu


def test_each_process_has_its_own_gpu() -> None:
    assert [choose_gpu(rank, 4, {}) for rank in (0, 1, 3)] == [torch.device("cuda", n) for n in (0, 1, 3)]


def test_a_process_without_a_gpu_is_refused() -> None:
    with pytest.raises(UsageError, match=r"SLURM_LOCALID: there is no GPU for process 4 .* at most one process"):
        choose_gpu(4, 4, {})
    with pytest.raises(UsageError, match="there is no GPU for process 1"):
        choose_gpu(1, 1, {"LOCAL_RANK": "1", "SLURM_STEP_NUM_TASKS": "2"})


def test_a_process_of_srun_that_sees_one_gpu_has_its_own() -> None:
    assert choose_gpu(3, 1, {"SLURM_STEP_NUM_TASKS": "4"}) == torch.device("cuda", 0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_is_the_cpu_whatever_the_launcher_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert best_device() == torch.device("cpu")
