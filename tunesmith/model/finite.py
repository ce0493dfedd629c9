"""Finds numbers that are not finite in weights and in the state of an optimizer."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


@torch.no_grad()
def find_not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor with NaN or an infinity; None if there is none.

    One sum over each tensor reads every number once: NaN and infinities stay in a sum. Finite numbers can overflow
    together, so a sum that is not finite is followed by a look at the numbers themselves.
    """
    names = [name for name, tensor in tensors.items() if tensor.is_floating_point() and tensor.numel()]
    if not names:
        return None
    sums = torch.stack([tensors[name].detach().sum().double() for name in names])
    suspects = [name for name, finite in zip(names, sums.isfinite().tolist(), strict=True) if not finite]
    return next((name for name in suspects if not tensors[name].isfinite().all()), None)
