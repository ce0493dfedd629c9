"""The difference of two rates where the same prompts were asked twice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith.evaluate.text_match import Rate


@dataclass(frozen=True, slots=True)
class Gain:
    """How many prompts succeeded both times, only the second time, only the first time, and neither time."""

    both: int
    gained: int
    lost: int
    neither: int

    @classmethod
    def between(cls, before: Sequence[bool], after: Sequence[bool]) -> Gain:
        """From the successes of the same prompts in the same order. ValueError if they are not as many."""
        pairs = list(zip(before, after, strict=True))
        return cls(*(pairs.count(kind) for kind in ((True, True), (False, True), (True, False), (False, False))))

    @property
    def total(self) -> int:
        """The number of prompts."""
        return self.both + self.gained + self.lost + self.neither

    @property
    def difference(self) -> float:
        """The second rate less the first; 0 where nothing was tried."""
        return (self.gained - self.lost) / self.total if self.total else 0.0

    def interval(self, z: float = 1.959964) -> tuple[float, float]:
        """Newcombe's interval for paired proportions (Newcombe 1998, "Improved confidence intervals for the difference
        between binomial proportions based on paired data", method 10), 95 % by default; (-1, 1) where nothing was tried.

        Wilson's intervals of both rates are put together, less what the pairing explains (``_correlation``).
        """
        if not self.total:
            return -1.0, 1.0
        before, after = Rate(self.both + self.lost, self.total), Rate(self.both + self.gained, self.total)
        (before_low, before_high), (after_low, after_high) = before.interval(z), after.interval(z)
        phi = self._correlation()
        down = _joined(after.share - after_low, before_high - before.share, phi)
        up = _joined(after_high - after.share, before.share - before_low, phi)
        return max(-1.0, self.difference - down), min(1.0, self.difference + up)

    def _correlation(self) -> float:
        """The correlation of both outcomes, with Newcombe's correction towards 0 where it is positive."""
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


def _joined(one: float, other: float, correlation: float) -> float:
    return math.sqrt(max(0.0, one * one - 2 * correlation * one * other + other * other))
