"""Sums by blocks are cumulative sums: they never descend, and a value of 0 changes nothing."""

from __future__ import annotations

import pytest
import torch

from tunesmith.generate.cumulative import BLOCK, blocked_sums


@pytest.mark.parametrize("size", [1, 5, BLOCK, BLOCK + 1, 3 * BLOCK, BLOCK * BLOCK + 7])
def test_blocked_sums_are_cumulative_sums(size: int) -> None:
    torch.manual_seed(size)
    values = torch.rand(3, size, dtype=torch.float64)
    found = blocked_sums(values)
    torch.testing.assert_close(found, values.cumsum(dim=-1), rtol=1e-12, atol=0)
    assert bool((found.diff(dim=-1) >= 0).all())


def test_a_value_of_zero_changes_no_sum() -> None:
    torch.manual_seed(1)
    values = torch.rand(4, 2000, dtype=torch.float64) * (torch.rand(4, 2000) < 0.3)
    sums = blocked_sums(values)
    same = sums.diff(dim=-1) == 0
    assert bool(same[values[:, 1:] == 0].all())
