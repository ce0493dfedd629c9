"""Differences of two models on the same prompts: a bootstrap interval, and whether a difference is shown at all.

The unit is the prompt; several replies to one prompt are averaged before. Everything is a function of the numbers: the
draws come from a fixed seed, so the same reports give the same intervals.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from tunesmith.draws import resamples, sign_flips

Floats: TypeAlias = npt.NDArray[np.float64]

ERROR = 0.05
"""The largest probability that two equal models are declared different, in all their comparisons together."""
FEWEST_PROMPTS = 10
"""With fewer prompts no difference is declared, and no interval is given."""
MOST_RESAMPLES, FEWEST_RESAMPLES, DRAWS = 10_000, 2_000, 10_000_000
"""Bootstrap samples; between these two, as many as need this number of draws."""


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """The mean difference of two models over the prompts that both answered.

    prompts: their number.
    mean: of the second model less the first.
    low, high: the confidence interval; from -inf to inf with too few prompts.
    """

    prompts: int
    mean: float
    low: float
    high: float

    @property
    def is_shown(self) -> bool:
        """Whether the models are declared different: 0 is outside of the interval."""
        return not self.low <= 0 <= self.high


def paired_differences(differences: Floats, comparisons: int = 1) -> list[PairedDifference]:
    """The paired difference of every column.

    The interval is the expanded percentile interval of the bootstrap (Hesterberg 2015, "What Teachers Should Know about
    the Bootstrap", section 5.3), at the confidence level 1 - 0.05 / ``comparisons`` (Bonferroni). A bootstrap sample
    of a few rare events is misleading, so the interval is extended to 0 where the test by random changes of sign, which
    is exact for equal models (McNemar's test is a case of it), does not reject at the same level.

    differences: second model less first, float64 [n, k]: n prompts, k columns.
    comparisons: how many differences are declared or not in one family.
    """
    count = len(differences)
    means = differences.mean(axis=0) if count else np.zeros(differences.shape[1])
    if count < FEWEST_PROMPTS:
        return [PairedDifference(count, float(mean), -math.inf, math.inf) for mean in means]
    level = ERROR / comparisons
    weights, signs = _resampling(count)
    tail = _expanded_tail(level / 2, count)
    scale = np.abs(differences).max(axis=0, initial=1e-300)
    scaled = (differences / scale).astype(np.float32)
    low, high = np.quantile(weights @ scaled, (tail, 1 - tail), axis=0) * scale
    observed = scaled.mean(axis=0)
    extreme = (np.abs(signs @ scaled) >= np.abs(observed) - 1e-6).sum(axis=0)
    rejected = (1 + extreme) / (1 + len(signs)) <= level
    low, high = np.where(rejected, low, np.minimum(low, 0.0)), np.where(rejected, high, np.maximum(high, 0.0))
    return [PairedDifference(count, *map(float, values)) for values in zip(means, low, high, strict=True)]


@lru_cache(maxsize=2)
def _resampling(count: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The weights of the prompts in every bootstrap sample and in every change of signs, both float32 [r, n]."""
    number = min(MOST_RESAMPLES, max(FEWEST_RESAMPLES, DRAWS // count))
    chosen = resamples(count, number) + count * np.arange(number)[:, None]
    weights = np.bincount(chosen.ravel(), minlength=number * count).reshape(number, count)
    signs = np.where(sign_flips(count, number), np.float32(-1 / count), np.float32(1 / count))
    return (weights / count).astype(np.float32), signs


def _expanded_tail(tail: float, count: int) -> float:
    """The tail of the percentile interval that has the width of a t interval for ``count`` prompts."""
    normal = NormalDist()
    return normal.cdf(math.sqrt(count / (count - 1)) * _t_quantile(normal.inv_cdf(tail), count - 1))


def _t_quantile(z: float, freedom: int) -> float:
    """Student's t from the normal quantile (Abramowitz and Stegun 26.7.5): to 0.01 for 9 degrees of freedom or more."""
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    fourth = (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160
    return z + first / freedom + second / freedom**2 + third / freedom**3 + fourth / freedom**4
