"""Comparison of two computations of the same numbers. NaN is a difference that no tolerance allows."""

from __future__ import annotations

import math
from collections.abc import Iterable

from torch import Tensor


def largest_difference(found: Tensor, expected: Tensor) -> float:
    """The largest absolute difference of two tensors of one shape, with at least one element; NaN if there is any."""
    return float((found - expected).abs().max())


def max_or_nan(values: Iterable[float]) -> float:
    """The largest of some numbers, 0.0 if there are none, and NaN if any is NaN.

    The built-in ``max`` ignores NaN depending on the order: ``max(0.0, nan)`` is 0.0. Whoever compares the result with
    a tolerance must write ``result <= tolerance``, which is false for NaN.
    """
    listed = list(values)
    return math.nan if any(math.isnan(value) for value in listed) else max(listed, default=0.0)
