"""Confidence intervals of validation metrics that are shares: of preference pairs, of rankings, or of replies."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tunesmith.report.intervals import wilson_interval

COUNTS: Mapping[str, str] = {
    "stopped": "prompts",
    "rewards/accuracies": "units",
    "logps/improved": "units",
    "accuracy": "groups",
    "accuracy/best_worst": "groups",
}
"""Metric -> the metric that is the number of its trials.

The accuracy of a reward model is a mean of shares, one for each ranking. Their variance is at most that of as many
single trials, so the interval for these is not too narrow. Pairs of one ranking are alike, so that the share of all
pairs has no such interval.
"""


def share_interval(name: str, metrics: Mapping[str, float]) -> tuple[float, float] | None:
    """Wilson's interval of 95 % of a metric that is a share; None for any other metric, and without a count.

    name: of the metric. metrics: all of one source.
    """
    count, share = metrics.get(COUNTS.get(name, "")), metrics.get(name)
    if not count or share is None or not 0 <= share <= 1 or not math.isfinite(count):
        return None
    return wilson_interval(share, count)
