"""What distinguishes two models on the same items: a difference with an interval, or that none was shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from tunesmith.benchmark.results import ModelScores, TaskScore, geometric_mean
from tunesmith.benchmark.suites import DOLLY, MMLU
from tunesmith.draws import outcome_counts
from tunesmith.errors import InternalError
from tunesmith.report.intervals import Gain
from tunesmith.report.paired import ERROR, FEWEST_PROMPTS, paired_differences

GMEAN = "gmean"
BOOTSTRAP_SAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class TaskDifference:
    """The difference of two models in one task, in all subjects of MMLU together, or of their geometric means.

    task: name of the task, ``mmlu`` or ``gmean``.
    items: how many both answered.
    mean: the second model less the first.
    low, high: the confidence interval; without bounds where there are too few items.
    p_value: of McNemar's exact test; None where items are right in part, and for the geometric mean.
    """

    task: str
    items: int
    mean: float
    low: float
    high: float
    p_value: float | None

    @property
    def is_shown(self) -> bool:
        """Whether the models are declared different."""
        return not self.low <= 0 <= self.high


def compare_scores(first: ModelScores, second: ModelScores) -> list[TaskDifference]:
    """The differences in all tasks that both have, in MMLU as a whole, and of the means if both have dolly's tasks.

    The level of 95 % holds for all of them together (Bonferroni). Raises InternalError for different items.
    """
    pairs = [(score, other) for score in first.tasks if (other := second.find(score.task)) is not None]
    values, others = first.card_values, second.card_values
    has_mean = values is not None and others is not None
    subjects = [pair for pair in pairs if pair[0] in first.subject_scores]
    has_subjects = len(subjects) > 1
    level = ERROR / max(1, len(pairs) + has_subjects + has_mean)
    found = [_compare_items(one.task, [(one, other)], level) for one, other in pairs]
    if has_subjects:
        found.append(_compare_items(MMLU, subjects, level))
    if values is not None and others is not None:
        found.append(_compare_means([pair for pair in pairs if pair[0].task in DOLLY], level))
    return found


def mcnemar_p_value(gained: int, lost: int) -> float:
    """The exact test of McNemar (1947): two-sided, binomial with probability 1/2 of the items that differ."""
    trials = gained + lost
    if not trials:
        return 1.0
    logs = (
        math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1) - trials * math.log(2)
        for k in range(min(gained, lost) + 1)
    )
    return min(1.0, 2 * math.fsum(map(math.exp, logs)))


def _compare_items(name: str, pairs: Sequence[tuple[TaskScore, TaskScore]], level: float) -> TaskDifference:
    """The difference over the items of one task, or of several together. name: of what the difference is."""
    for first, second in pairs:
        if [item.digest for item in first.items] != [item.digest for item in second.items]:
            raise InternalError("two models were evaluated on different items", where=first.task)
    before, after = ([value for score in scores for value in score.values] for scores in zip(*pairs, strict=True))
    count = len(before)
    if any(first.rate is None or second.rate is None for first, second in pairs):
        difference = np.array(after) - np.array(before)
        (paired,) = paired_differences(difference[:, None], round(ERROR / level))
        return TaskDifference(name, count, paired.mean, paired.low, paired.high, None)
    gain = Gain.between([value == 1.0 for value in before], [value == 1.0 for value in after])
    p_value = mcnemar_p_value(gain.gained, gain.lost)
    if count < FEWEST_PROMPTS:
        return TaskDifference(name, count, gain.difference, -math.inf, math.inf, p_value)
    low, high = gain.interval(-NormalDist().inv_cdf(level / 2))
    if p_value > level:  # the interval is approximate, the test is exact
        low, high = min(low, 0.0), max(high, 0.0)
    return TaskDifference(name, count, gain.difference, low, high, p_value)


def _compare_means(pairs: Sequence[tuple[TaskScore, TaskScore]], level: float) -> TaskDifference:
    """The difference of the geometric means, with a percentile bootstrap over the items of every task."""
    firsts, seconds = [], []
    for first, second in pairs:
        one = np.array(first.values) == 1.0
        other = np.array(second.values) == 1.0
        counts = [int((one & other).sum()), int((~one & other).sum()), int((one & ~other).sum())]
        drawn = outcome_counts([*counts, len(one) - sum(counts)], BOOTSTRAP_SAMPLES, first.task)
        firsts.append((drawn[:, 0] + drawn[:, 2]) / len(one))
        seconds.append((drawn[:, 0] + drawn[:, 1]) / len(one))
    means = [np.prod(values, axis=0) ** (1 / len(pairs)) for values in (firsts, seconds)]
    low, high = np.quantile(means[1] - means[0], (level / 2, 1 - level / 2))
    mean = geometric_mean([s.score for _, s in pairs]) - geometric_mean([f.score for f, _ in pairs])
    count = sum(len(first.items) for first, _ in pairs)
    if min(len(first.items) for first, _ in pairs) < FEWEST_PROMPTS:
        low, high = -math.inf, math.inf
    return TaskDifference(GMEAN, count, mean, float(low), float(high), None)
