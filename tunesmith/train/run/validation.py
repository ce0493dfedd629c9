"""The result of an evaluation: its keys in metrics.jsonl, and its names in recipes and trackers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

ValidationMetrics = Mapping[str, Mapping[str, float]]
"""Source -> metric -> value. The source ``ALL`` has the metrics of all sources together."""

ALL = "all"

STEP = "step"
CHECKPOINT = "checkpoint"
VALIDATION = "validation"
"""Keys of the line of an evaluation. ``CHECKPOINT``: whether the step has a checkpoint, by plan or as the best."""


def validation_record(step: int, metrics: ValidationMetrics, *, saved: bool) -> dict[str, Any]:
    """The line of an evaluation in metrics.jsonl. saved: whether the step has a checkpoint, by plan or as the best."""
    return {STEP: step, CHECKPOINT: saved, VALIDATION: metrics}


def metric_name(source: str, metric: str) -> str:
    """The full name of a metric of one source: ``validation/SOURCE/METRIC``."""
    return f"{VALIDATION}/{source}/{metric}"


def flatten(metrics: ValidationMetrics) -> dict[str, float]:
    """Full name -> value, for trackers."""
    return {metric_name(source, name): value for source, found in metrics.items() for name, value in found.items()}


def find_not_finite_metric(metrics: ValidationMetrics) -> str | None:
    """The full name of the first metric that is NaN or infinite; None if there is none."""
    return next((name for name, value in flatten(metrics).items() if not math.isfinite(value)), None)
