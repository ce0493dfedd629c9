"""Finds numbers that are not finite in weights and in the state of an optimizer."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tunesmith.model.local_rows import local_part, local_rows, sum_over_rows


@torch.no_grad()
def find_not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor with NaN or an infinity; None if there is none.

    One sum over each tensor reads every number once: NaN and infinities stay in a sum. Finite numbers can overflow
    together, so a sum that is not finite is followed by a look at the numbers themselves.

    Of sharded tensors every process looks at its own rows, and all processes find the same.
    """
    names = [name for name, tensor in tensors.items() if tensor.is_floating_point() and tensor.numel()]
    if not names:
        return None
    devices = [local_part(tensors[name]).device for name in names]  # some may be offloaded to the host
    device = next((each for each in devices if each.type != "cpu"), devices[0])
    sums = torch.stack([local_part(tensors[name]).sum().double().to(device) for name in names])
    faults = [
        not finite and not bool(local_part(tensors[name]).isfinite().all())
        for name, finite in zip(names, sums.isfinite().tolist(), strict=True)
    ]
    sharded = [tensors[name] for name in names if local_rows(tensors[name]) is not None]
    if sharded:
        faults = sum_over_rows(torch.tensor(faults, dtype=torch.int32, device=sums.device), sharded[0]).bool().tolist()
    return next((name for name, fault in zip(names, faults, strict=True) if fault), None)
