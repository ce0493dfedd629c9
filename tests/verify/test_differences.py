"""The largest difference is NaN as soon as one number is, whatever the order."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
import torch

from tunesmith.verify.differences import largest_difference, max_or_nan


def test_the_largest_of_finite_numbers_is_that_of_max() -> None:
    assert max_or_nan([0.5, 2.0, 1.0]) == 2.0
    assert max_or_nan([]) == 0.0
    assert max_or_nan([1.0, math.inf]) == math.inf


@pytest.mark.parametrize("values", list(permutations([0.0, math.nan, math.inf])))
def test_nan_wins_in_every_place(values: tuple[float, ...]) -> None:
    assert math.isnan(max_or_nan(values))


def test_the_difference_of_tensors_is_nan_where_one_element_is() -> None:
    expected = torch.zeros(3)
    assert largest_difference(torch.tensor([0.5, -2.0, 1.0]), expected) == 2.0
    assert math.isnan(largest_difference(torch.tensor([0.5, math.nan, 1.0]), expected))
    assert math.isnan(largest_difference(torch.tensor([math.inf]), torch.tensor([math.inf])))
