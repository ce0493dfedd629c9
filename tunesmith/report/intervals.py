"""Success rates and paired differences of success rates, with 95 % confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
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
        return wilson_interval(self.share, self.total, z) if self.total else (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class GroupedRate:
    """A success rate of trials in groups, such as several replies to each prompt; trials of a group are alike.

    groups: (successes, trials) of every group; groups without trials do not count.
    """

    groups: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, groups: Iterable[Iterable[bool]]) -> GroupedRate:
        """From the outcomes of every group."""
        found = [tuple(group) for group in groups]
        return cls(tuple((sum(group), len(group)) for group in found if group))

    @property
    def rate(self) -> Rate:
        """The rate over all trials."""
        return Rate(sum(successes for successes, _ in self.groups), sum(trials for _, trials in self.groups))

    @property
    def share(self) -> float:
        """Between 0 and 1; 0 without any trial."""
        return self.rate.share

    def interval(self, z: float = Z_95) -> tuple[float, float]:
        """Wilson's interval for the effective number of trials (Korn and Graubard 1998, "Confidence intervals for
        proportions with small expected number of positive counts estimated from survey data").

        It is the number of independent trials that have the variance of the groups: between the number of groups, if
        all trials of a group have the same outcome, and the number of trials. (0, 1) without any trial.
        """
        rate, count = self.rate, len(self.groups)
        if not rate.total:
            return 0.0, 1.0
        p = rate.share
        squares = sum((successes - p * trials) ** 2 for successes, trials in self.groups)
        variance = squares / rate.total**2 * count / max(count - 1, 1)
        if not 0 < p < 1:
            return wilson_interval(p, count, z)  # there is no variance to be seen
        effective = p * (1 - p) / variance if variance else float(rate.total)
        return wilson_interval(p, min(max(effective, float(count)), float(rate.total)), z)


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


def wilson_interval(p: float, n: float, z: float = Z_95) -> tuple[float, float]:
    """Wilson's score interval of a share. p: the share. n: the number of trials, above 0; it may be a fraction."""
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    low = max(0.0, centre - half) if p > 0 else 0.0  # exactly, not up to rounding
    high = min(1.0, centre + half) if p < 1 else 1.0
    return low, high


def _combine(one: float, other: float, correlation: float) -> float:
    return math.sqrt(max(0.0, one * one - 2 * correlation * one * other + other * other))
