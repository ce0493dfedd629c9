"""The metrics of all steps, thinned so that a page of a long run stays small; metrics.jsonl has all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MOST = 1000
"""Largest number of buckets. Each has a lowest and a highest value, so a curve has at most twice as many points."""


@dataclass(slots=True)
class Bucket:
    """The values of one metric in some consecutive steps.

    total, count: the sum and number of the values.
    low, high: the lowest and the highest one.
    """

    total: float
    count: int
    low: float
    high: float

    def add(self, other: Bucket) -> None:
        """Add the values of another bucket."""
        self.total, self.count = self.total + other.total, self.count + other.count
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)

    @property
    def mean(self) -> float:
        return self.total / self.count


@dataclass(slots=True)
class Curves:
    """Metrics by step, in buckets of equal numbers of steps. Extreme values are never lost.

    most: the largest number of buckets, at least 1. When there are more, every two are joined.
    width: steps of each bucket.
    metrics: metric -> number of a bucket -> its values. Bucket n has the steps n * width + 1 to (n + 1) * width.
    """

    most: int = MOST
    width: int = 1
    metrics: dict[str, dict[int, Bucket]] = field(default_factory=dict)

    def add(self, step: int, values: Mapping[str, Any]) -> None:
        """Add the values of a step, counted from 1; what is not a finite number is left out."""
        while (step - 1) // self.width >= self.most:
            self._join()
        number = (step - 1) // self.width
        for name, value in values.items():
            if type(value) in (int, float) and abs(value) <= LARGEST:
                self._put(self.metrics.setdefault(name, {}), number, Bucket(float(value), 1, value, value))

    def numbers(self) -> list[int]:
        """The numbers of all buckets that have values, in order."""
        return sorted({number for buckets in self.metrics.values() for number in buckets})

    def last_step(self, number: int) -> int:
        """The last step of a bucket."""
        return (number + 1) * self.width

    def _join(self) -> None:
        self.width *= 2
        for name, buckets in self.metrics.items():
            joined: dict[int, Bucket] = {}
            for number, bucket in buckets.items():
                self._put(joined, number // 2, bucket)
            self.metrics[name] = joined

    @staticmethod
    def _put(buckets: dict[int, Bucket], number: int, bucket: Bucket) -> None:
        if number in buckets:
            buckets[number].add(bucket)
        else:
            buckets[number] = bucket


LARGEST = math.sqrt(1.7e308)
"""Values beyond it are left out like infinity, so that no sum of them can overflow."""
