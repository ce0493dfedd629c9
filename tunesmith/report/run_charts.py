"""The charts of a run: which curves are drawn together, what they are called, and their numbers as JSON."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from tunesmith.text.visible import visible

ValueKind = Literal["number", "share"]
DIGITS = 6
"""Significant digits of the numbers on the page."""
MOST_NUMBERS = 40_000
"""Largest number of values of evaluations on the page; beyond it, some between the first and last are omitted."""
MOST_SOURCES = 6
"""Largest number of validation sources with a curve; the table of evaluations has all metrics of all together."""
VALIDATION_COUNTS = ("units", "targets", "pairs", "groups")
"""Values of an evaluation that are no metrics."""


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart.

    title: what is drawn.
    names: the metrics, of training and of validation.
    kind: how its values are written.
    main: whether it is among the first charts.
    compared: whether the metric means the same in training and validation, so that both are drawn.
    """

    title: str
    names: tuple[str, ...]
    kind: ValueKind = "number"
    main: bool = True
    compared: bool = True


GROUPS = (
    Chart("reward, chosen and rejected", ("rewards/chosen", "rewards/rejected")),
    Chart("log-probability, chosen and rejected", ("logps/chosen", "logps/rejected")),
    Chart("score, chosen and rejected", ("score/chosen", "score/rejected")),
    Chart("KL to the reference per reply", ("reference_kl/reply",)),
    Chart("tokens per reply", ("replies/length",)),
    Chart("BLEU of generated replies", ("bleu",)),
    Chart("ROUGE-L of generated replies", ("rouge_l",)),
    Chart("learning rate", ("learning_rate",)),
    Chart("gradient norm before clipping", ("gradient_norm",)),
    Chart("tokens per second", ("tokens/s",)),
)
"""Charts after those of the metrics that the method shows."""


@dataclass(frozen=True, slots=True)
class StepCurve:
    """A metric of training, by buckets of steps; None where a bucket has no value.

    mean, low, high: of the steps of each bucket. low and high are empty if every bucket is one step.
    """

    mean: Sequence[float | None]
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()


@dataclass(frozen=True, slots=True)
class EvaluationPoint:
    """The metrics after a step: source -> metric -> value; the source ``all`` has those of all sources together."""

    step: int
    metrics: Mapping[str, Mapping[str, float]]


def build_charts(shown: Sequence[Chart], training: Collection[str], validation: Collection[str]) -> list[Chart]:
    """The charts of the metrics that exist.

    shown: the most important charts, which the method names.
    training, validation: the metrics of steps and of evaluations.
    """
    known = [*training, *(name for name in validation if name not in training and name not in VALIDATION_COUNTS)]
    charts = []
    drawn: set[str] = set()
    for chart in (*shown, *GROUPS):
        names = tuple(name for name in chart.names if name in known and name not in drawn)
        drawn |= set(names)
        if names:
            charts.append(Chart(chart.title, names, chart.kind))
    charts += [Chart(name, (name,), main=False, compared=False) for name in known if name not in drawn]
    return charts


def chart_data(
    charts: Sequence[Chart],
    steps: Sequence[int],
    curves: Mapping[str, StepCurve],
    evaluations: Sequence[EvaluationPoint],
    best: int,
) -> dict[str, Any]:
    """What the script of the page draws.

    steps: the last step of every bucket.
    curves: metric -> its values in every bucket.
    evaluations: in the order of their steps.
    best: step of the chosen checkpoint; 0 if there is none.
    """
    names = list(dict.fromkeys(name for chart in charts for name in chart.names))
    sources = _sources(evaluations)
    numbers = max(1, len(names) * len(sources))
    kept = evenly([*evaluations], max(2, MOST_NUMBERS // numbers))
    validation = {
        label: {
            name: [_rounded(point.metrics.get(source, {}).get(name)) for point in kept]
            for name in names
            if any(name in point.metrics.get(source, {}) for point in kept)
        }
        for source, label in sources.items()
    }
    return {
        "steps": list(steps),
        "curves": {
            visible(name): [[*map(_rounded, part)] for part in (curve.mean, curve.low, curve.high)]
            for name, curve in curves.items()
        },
        "evaluated": [point.step for point in kept],
        "validation": [
            [visible(label), {visible(name): row for name, row in rows.items()}] for label, rows in validation.items()
        ],
        "charts": [
            [visible(each.title), each.kind, [*map(visible, each.names)], each.main, each.compared] for each in charts
        ],
        "best": best,
    }


def evenly(items: Sequence[Any], most: int) -> list[Any]:
    """At most ``most`` items (at least 2), the first and the last one among them, at equal distances."""
    if len(items) <= most:
        return list(items)
    return [items[round(number * (len(items) - 1) / (most - 1))] for number in range(most)]


def _sources(evaluations: Sequence[EvaluationPoint]) -> dict[str, str]:
    """Source -> its label: all together, and each one where there are several."""
    names = list(dict.fromkeys(name for point in evaluations for name in point.metrics if name != "all"))
    several = names[:MOST_SOURCES] if len(names) > 1 else []
    return {"all": "validation", **{name: name for name in several}}


def _rounded(value: float | None) -> float | int | None:
    if value is None or not -1e300 < value < 1e300:
        return None
    short = float(f"{value:.{DIGITS}g}")
    return int(short) if short.is_integer() and abs(short) < 1e15 else short


def joined_repetitions(texts: Sequence[tuple[int, str]]) -> Iterator[tuple[int, int, str]]:
    """(first step, last step, text) of consecutive equal texts. texts: (step, text) in the order of the steps."""
    starts = [0, *(index + 1 for index, (one, two) in enumerate(pairwise(texts)) if one[1] != two[1]), len(texts)]
    for start, end in pairwise(starts):
        if start < end:
            yield texts[start][0], texts[end - 1][0], texts[start][1]
