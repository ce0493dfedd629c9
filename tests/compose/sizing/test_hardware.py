"""The GPU whose memory a plan is compared with is that of the process."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from tunesmith.compose.sizing.hardware import present_gpu
from tunesmith.compose.sizing.memory import GIB


@pytest.mark.parametrize("rank", [0, 1])
def test_every_process_compares_with_its_own_gpu(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [SimpleNamespace(name="NVIDIA H100", total_memory=79 * GIB), SimpleNamespace(name="T4", total_memory=GIB)]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(found))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: found[torch.device(device).index or 0])
    for name, value in {"RANK": rank, "WORLD_SIZE": 2, "LOCAL_RANK": rank}.items():
        monkeypatch.setenv(name, str(value))
    gpu = present_gpu()
    assert gpu is not None
    assert (gpu.title, gpu.memory) == (found[rank].name, found[rank].total_memory)


def test_without_a_gpu_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert present_gpu() is None
