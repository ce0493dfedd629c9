"""The update of AdamW on a second device: it waits for nothing, also where it clips gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.train.test_virtual_device import CASES, moved, step_of
from tests.virtual_device import VirtualDevice, VirtualTensor
from tunesmith.train.loop import accumulate_gradients
from tunesmith.train.optim import optimizers, storage
from tunesmith.train.optim.optimizers import AdamW
from tunesmith.train.optim.storage import StateFormat
from tunesmith.world import SingleProcess


def adamw_by_formula(
    weights: Sequence[Tensor],
    gradients: Sequence[Tensor],
    averages: Sequence[Tensor],
    squares: Sequence[Tensor],
    _: Sequence[Tensor],
    steps: Sequence[Tensor],
    *,
    grad_scale: Tensor | None,
    beta1: float,
    beta2: float,
    lr: float,
    weight_decay: float,
    eps: float,
    **others: bool,
) -> None:
    """As the fused kernel, in operations that a virtual device has."""
    assert others == {"fused": True, "amsgrad": False, "maximize": False}
    for weight, found, average, square, step in zip(weights, gradients, averages, squares, steps, strict=True):
        step.add_(1.0)
        gradient = found if grad_scale is None else found / grad_scale
        weight.mul_(1.0 - lr * weight_decay)
        average.lerp_(gradient, 1.0 - beta1)
        square.mul_(beta2).addcmul_(gradient, gradient, value=1.0 - beta2)
        change = average / (1.0 - beta1**step)
        weight.sub_(lr * change / ((square / (1.0 - beta2**step)).sqrt() + eps))


@pytest.mark.parametrize("moments", ["float32", "8bit"])
def test_adamw_with_clipping_waits_for_nothing_and_gives_the_numbers_of_the_host(
    moments: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """moments: those in 8 bits are updated part by part."""
    monkeypatch.setattr(storage, "PART", 256)
    here, there = CASES["sft llama"](), CASES["sft llama"]()
    with VirtualDevice() as device:
        for case in (here, moved(there, device)):
            accumulate_gradients(case.policy, case.objective, step_of(case.batches), SingleProcess())
            optimizer = AdamW(case.policy.parameters(), weight_decay=0.1, storage=StateFormat(moments=moments))
            if case is there:
                monkeypatch.setattr(optimizers, "adamw", adamw_by_formula)
            device.waits.clear()
            optimizer.step(1e-3, 0.5)
        assert not device.waits
        assert not device.mixed
        expected = here.policy.parameters()
        for name, parameter in there.policy.parameters().items():
            found = parameter.data
            assert isinstance(found, VirtualTensor)
            assert torch.allclose(found.held, expected[name].data, rtol=1e-5, atol=1e-7), name
