"""The mean score of the best of n replies, for every n up to the number that was sampled: values and a table."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from tunesmith.report.paired import FEWEST_PROMPTS, paired_differences

WIDTH, NAME_WIDTH, COLUMN_WIDTH = 80, 20, 12
COLUMNS = (WIDTH - NAME_WIDTH) // COLUMN_WIDTH
NOTE = (
    "Mean score of the best of n replies to a prompt, estimated without bias from all replies to it. Below it: the "
    "gain over one reply, as a 95 % interval (bootstrap over prompts). KL: how far the best of n is from the model at "
    "most, in nats."
)


@dataclass(frozen=True, slots=True)
class BestOf:
    """The best of n replies.

    n: the number of replies of which the best is taken.
    mean: its expected score, as the mean over the prompts.
    gain: the mean less that of one reply.
    low, high: the 95 % interval of the gain over prompts; None with fewer than 10 prompts.
    """

    n: int
    mean: float
    gain: float
    low: float | None
    high: float | None

    @property
    def divergence(self) -> float:
        """The largest KL divergence of the best of n from the model, in nats: log n - (n - 1) / n.

        Stiennon et al. 2020, "Learning to summarize from human feedback", appendix G.3; that it is a bound is shown by
        Beirami et al. 2024, "Theoretical guarantees on the best-of-n alignment policy".
        """
        return math.log(self.n) - (self.n - 1) / self.n


@dataclass(frozen=True, slots=True)
class BestOfCurve:
    """The best of 1, 2, 4, ... and N replies.

    replies: N, the most scored replies to a prompt.
    prompts: with so many scored replies; only they count.
    left_out: prompts with fewer scored replies.
    points: for every n of these.
    """

    replies: int
    prompts: int
    left_out: int
    points: tuple[BestOf, ...]


def expected_best(scores: Sequence[float], n: int) -> float:
    """The expected score of the best of n replies that are drawn without replacement from all of them.

    For independent replies it has the expectation of the best of n new ones. Raises ValueError for n outside of 1 to
    the number of scores.
    """
    if not 1 <= n <= len(scores):
        raise ValueError(f"the best of {n} of {len(scores)} replies")
    subsets = math.comb(len(scores), n)
    # The reply of rank i (from 0, the lowest first) is the best of n wherever the others are n - 1 of the i below it.
    return sum(math.comb(rank, n - 1) / subsets * score for rank, score in enumerate(sorted(scores)))


def best_of_curve(prompts: Sequence[Sequence[float]]) -> BestOfCurve | None:
    """The curve for the prompts with the most scores; None where no prompt has two.

    prompts: for every prompt the scores of its replies.
    """
    most = max(map(len, prompts), default=0)
    if most < 2:
        return None
    counted = [scores for scores in prompts if len(scores) == most]
    numbers = _powers_of_two(most)
    means = np.array([[expected_best(scores, n) for n in numbers] for scores in counted])
    points = [BestOf(1, fmean(means[:, 0]), 0.0, None, None)]
    for index, found in enumerate(paired_differences(means[:, 1:] - means[:, :1]), 1):
        low, high = (found.low, found.high) if len(counted) >= FEWEST_PROMPTS else (None, None)
        points.append(BestOf(numbers[index], fmean(means[:, index]), found.mean, low, high))
    return BestOfCurve(most, len(counted), sum(0 < len(scores) < most for scores in prompts), tuple(points))


def curve_lines(curves: Mapping[str, BestOfCurve]) -> Iterator[str]:
    """A table in 80 columns, a curve on two lines; nothing if there is no curve. Nothing is escaped yet."""
    if not curves:
        return
    columns = _columns(curves.values())
    yield _row("best of n, n =", [str(n) for n in columns])
    for name, curve in curves.items():
        known = {point.n: point for point in curve.points}
        points = [known.get(n) for n in columns]
        yield _row(name, [_number(point.mean) if point else "" for point in points])
        yield _row(_counts(curve), [_gain(point) if point and point.n > 1 else "" for point in points])
    divergences = [BestOf(n, 0.0, 0.0, None, None).divergence for n in columns]
    yield _row("KL, at most", [f"{divergence:.2f}" for divergence in divergences])


def curve_note() -> list[str]:
    """How to read the tables of ``curve_lines``, in lines of 80 columns."""
    return textwrap.wrap(NOTE, WIDTH)


def _powers_of_two(most: int) -> list[int]:
    """1, 2, 4, ... and ``most``."""
    return [*(2**power for power in range(most.bit_length()) if 2**power < most), most]


def _columns(curves: Iterable[BestOfCurve]) -> list[int]:
    """The numbers that any curve has; if they are too many, 1 and the largest."""
    found = sorted({point.n for curve in curves for point in curve.points})
    return found if len(found) <= COLUMNS else [1, *found[1 - COLUMNS :]]


def _counts(curve: BestOfCurve) -> str:
    left_out = f" ({curve.left_out:,} not)" if curve.left_out else ""
    return f"  {curve.prompts:,} prompt{'s' * (curve.prompts != 1)}{left_out}"


def _row(name: str, cells: Sequence[str]) -> str:
    shown = name if len(name) < NAME_WIDTH else f"{name[: NAME_WIDTH - 3]}.."
    return (f"{shown:{NAME_WIDTH}}" + "".join(f"{cell:>{COLUMN_WIDTH}}" for cell in cells)).rstrip()


def _gain(point: BestOf) -> str:
    """The interval of the gain, or the gain alone where there is no interval."""
    if point.low is None or point.high is None:
        return f"+{_number(point.gain)}"
    return f"+{_number(point.low)}-{_number(point.high)}"


def _number(value: float) -> str:
    """At most four digits and a decimal point, for scores of usual sizes."""
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:.{digits}f}"
