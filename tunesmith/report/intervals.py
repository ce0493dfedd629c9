"""Success rates and paired differences of success rates, with 95 % confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Z_95 = 1.959964
"""The 97.5 % quantile of the standard normal distribution: intervals of 95 %."""


@dataclass(frozen=True, slots=True)
class Rate:
    """``successes`` of ``total`` trials."""

    successes: int
    total: int

    @property
    def share(self) -> float:
        """Between 0 and 1; 0 without any trial."""
        return self.successes / self.total if self.total else 0.0

    def interval(self, z: float = Z_95) -> tuple[float, float]:
        """Wilson's score interval (Wilson 1927, "Probable inference"); (0, 1) without any trial."""
        if not self.total:
            return 0.0, 1.0
        p, n = self.share, self.total
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
        return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True, slots=True)
class Gain:
    """The difference of two success rates over the same trials, from the counts of their outcomes.

    both: trials that succeeded the first and the second time.
    gained: trials that succeeded only the second time.
    lost: trials that succeeded only the first time.
    neither: trials that succeeded neither time.
    """

    both: int
    gained: int
    lost: int
    neither: int

    @classmethod
    def between(cls, before: Sequence[bool], after: Sequence[bool]) -> Gain:
        """From the outcomes of the same trials in the same order. Raises ValueError where their numbers differ."""
        outcomes = list(zip(before, after, strict=True))
        return cls(*(outcomes.count(kind) for kind in ((True, True), (False, True), (True, False), (False, False))))

    @property
    def total(self) -> int:
        """The number of trials."""
        return self.both + self.gained + self.lost + self.neither

    @property
    def difference(self) -> float:
        """The second rate less the first, -1 to 1; 0 without any trial."""
        return (self.gained - self.lost) / self.total if self.total else 0.0

    def interval(self, z: float = Z_95) -> tuple[float, float]:
        """Newcombe's interval for paired proportions (Newcombe 1998, "Improved confidence intervals for the difference
        between binomial proportions based on paired data", method 10); (-1, 1) without any trial.

        It combines Wilson's intervals of both rates, less the part that the correlation of the outcomes explains.
        """
        if not self.total:
            return -1.0, 1.0
        before, after = Rate(self.both + self.lost, self.total), Rate(self.both + self.gained, self.total)
        (before_low, before_high), (after_low, after_high) = before.interval(z), after.interval(z)
        phi = self._correlation()
        down = _combine(after.share - after_low, before_high - before.share, phi)
        up = _combine(after_high - after.share, before.share - before_low, phi)
        return max(-1.0, self.difference - down), min(1.0, self.difference + up)

    def _correlation(self) -> float:
        """The phi coefficient of both outcomes, with Newcombe's correction towards 0 where it is positive."""
        sides = (
            (self.both + self.gained)
            * (self.lost + self.neither)
            * (self.both + self.lost)
            * (self.gained + self.neither)
        )
        if not sides:
            return 0.0
        product = self.both * self.neither - self.gained * self.lost
        corrected = max(product - self.total / 2, 0.0) if product > 0 else product
        return corrected / math.sqrt(sides)


def _combine(one: float, other: float, correlation: float) -> float:
    return math.sqrt(max(0.0, one * one - 2 * correlation * one * other + other * other))
