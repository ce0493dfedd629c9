"""Every process of a machine uses its own GPU."""

from __future__ import annotations

import pytest
import torch

from tunesmith.errors import UsageError
from tunesmith.model.devices import best_device, choose_gpu


def test_each_process_has_its_own_gpu() -> None:
    assert [choose_gpu(rank, 4) for rank in ("0", "1", "3")] == [torch.device("cuda", n) for n in (0, 1, 3)]


@pytest.mark.parametrize("rank", ["4", "-1", "first", ""])
def test_a_process_without_a_gpu_is_refused(rank: str) -> None:
    with pytest.raises(UsageError, match=r"LOCAL_RANK: there is no GPU for process .* at most one process"):
        choose_gpu(rank, 4)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_is_the_cpu_whatever_the_launcher_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert best_device() == torch.device("cpu")
