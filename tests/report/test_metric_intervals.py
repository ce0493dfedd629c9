"""Shares among the validation metrics have Wilson's interval for their count; other metrics have none."""

from __future__ import annotations

import pytest

from tunesmith.report.intervals import Rate
from tunesmith.report.metric_intervals import share_interval


@pytest.mark.parametrize(
    ("name", "metrics"),
    [
        ("accuracy", {"accuracy": 0.75, "groups": 8.0, "pairs": 99.0}),
        ("rewards/accuracies", {"rewards/accuracies": 0.75, "units": 8.0, "prompts": 99.0}),
        ("stopped", {"stopped": 0.75, "prompts": 8.0, "units": 99.0}),
    ],
)
def test_the_interval_is_for_the_number_of_trials(name: str, metrics: dict[str, float]) -> None:
    assert share_interval(name, metrics) == pytest.approx(Rate(6, 8).interval())


@pytest.mark.parametrize(
    ("name", "metrics"),
    [
        ("loss", {"loss": 0.75, "units": 8.0}),
        ("rouge_l", {"rouge_l": 0.5, "prompts": 8.0}),
        ("accuracy", {"accuracy": 0.75}),
        ("accuracy", {"groups": 8.0}),
        ("accuracy", {"accuracy": float("nan"), "groups": 8.0}),
        ("accuracy", {"accuracy": 0.75, "groups": float("inf")}),
        ("accuracy/pairs", {"accuracy/pairs": 0.75, "groups": 8.0, "pairs": 16.0}),
    ],
)
def test_what_is_no_share_or_has_no_count_has_no_interval(name: str, metrics: dict[str, float]) -> None:
    assert share_interval(name, metrics) is None
