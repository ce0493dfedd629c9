"""Which checkpoint is the best: a rule over several metrics, a pure function of the record of a run.

The rule. Among all evaluations so far, every metric ranks the steps (1 is the best; equal values share the mean of their
ranks; a value that is not finite is the worst). The score of a step is the weighted mean of its ranks, and the lowest
score is the best, the earlier step where scores are equal.

What is kept. Only a step that is saved by plan can be chosen. A step that another one equals or beats in every metric
has the higher rank sum whatever comes later, so it can never win again and is let go; without a limit, the others (the
Pareto front) are all kept. With ``keep`` only the best ``keep`` of them by their present score are, and one that falls out
is out for good, even if later evaluations would have raised it. So the choice is among checkpoints that are there, and whoever
reads metrics.jsonl from its first line to its last comes to the same one.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tunesmith.errors import RecipeError

Mode = Literal["min", "max"]
VALIDATION = "validation"
ALL = "all"
CHECKPOINT = "checkpoint"
"""Keys of an evaluation's line in metrics.jsonl; ``checkpoint`` says whether the plan has one of this step."""


@dataclass(frozen=True, slots=True)
class Metric:
    """name: ``validation/loss``, or ``validation/SOURCE/loss`` for one source; a measure may have a stroke in its own name. mode: which end is the good one."""

    name: str
    mode: Mode = "min"
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class SelectionRule:
    """metrics: at least one. keep: how many checkpoints that could still be chosen are kept."""

    metrics: tuple[Metric, ...] = (Metric("validation/loss"),)
    keep: int = 1


@dataclass(frozen=True, slots=True)
class RankedStep:
    """One evaluated step: its values and ranks in the order of the rule's metrics, and the weighted mean of the ranks."""

    step: int
    values: tuple[float, ...]
    ranks: tuple[float, ...]
    score: float
    kept: bool


@dataclass(slots=True)
class Selection:
    """The state of the choice after some evaluations; feed it in the order of the steps.

    evaluated: step -> values. kept: the steps that could be chosen, best first.
    """

    rule: SelectionRule
    evaluated: dict[int, tuple[float, ...]] = field(default_factory=dict)
    kept: tuple[int, ...] = ()

    @property
    def best(self) -> int:
        """The chosen step; 0 if there is none yet."""
        return self.kept[0] if self.kept else 0

    def add(self, step: int, validation: Mapping[str, Mapping[str, Any]], *, saved: bool) -> None:
        """Take an evaluation in. validation: source -> metric -> value, as in the record. saved: whether there is a
        planned checkpoint of this step. The untrained model (step 0) takes no part. Raises RecipeError for a metric that
        the evaluation does not have."""
        values = tuple(_value(metric, validation) for metric in self.rule.metrics)
        if step == 0:
            return
        assert step > max(self.evaluated, default=0), "evaluations come in the order of their steps"
        self.evaluated[step] = values
        candidates = (*sorted(self.kept), *((step,) if saved else ()))
        scores = {standing.step: standing.score for standing in self.standings()}
        alive = [each for each in candidates if not any(self._beats(other, each) for other in candidates)]
        self.kept = tuple(sorted(alive, key=lambda each: (scores[each], each))[: self.rule.keep])

    def standings(self) -> list[RankedStep]:
        """Every evaluated step with its ranks of now, in order of the steps."""
        steps = list(self.evaluated)
        columns = [
            ranks([self.evaluated[step][index] for step in steps], metric.mode)
            for index, metric in enumerate(self.rule.metrics)
        ]
        weights = [metric.weight for metric in self.rule.metrics]
        found = []
        for index, step in enumerate(steps):
            row = tuple(column[index] for column in columns)
            score = math.fsum(weight * rank for weight, rank in zip(weights, row, strict=True)) / math.fsum(weights)
            found.append(RankedStep(step, self.evaluated[step], row, score, step in self.kept))
        return found

    def _beats(self, one: int, other: int) -> bool:
        """Whether ``other`` can never be chosen while ``one`` is there."""
        pairs = [
            (_badness(a, metric.mode), _badness(b, metric.mode))
            for a, b, metric in zip(self.evaluated[one], self.evaluated[other], self.rule.metrics, strict=True)
        ]
        return all(a <= b for a, b in pairs) and (any(a < b for a, b in pairs) or one < other)


def ranks(values: Sequence[float], mode: Mode) -> list[float]:
    """1 for the best; equal values share the mean of the ranks that they take up together."""
    badness = [_badness(value, mode) for value in values]
    order = sorted(badness)
    return [(bisect_left(order, value) + 1 + bisect_right(order, value)) / 2 for value in badness]


def _badness(value: float, mode: Mode) -> float:
    if not math.isfinite(value):
        return math.inf
    return value if mode == "min" else -value


def _value(metric: Metric, validation: Mapping[str, Mapping[str, Any]]) -> float:
    """A metric's value in one record; numbers that are not finite stand there as text."""
    root, _, name = metric.name.partition("/")
    source = ALL
    if name not in validation.get(ALL, {}):
        source, _, name = name.partition("/")
    found = validation.get(source, {})
    if root != VALIDATION or name not in found:
        known = [
            f"{VALIDATION}/{name}" if source == ALL else f"{VALIDATION}/{source}/{name}"
            for source, scores in validation.items()
            for name in scores
        ]
        raise RecipeError(
            f"there is no metric {metric.name!r}", where="train.best.metrics", advice=f"there are {', '.join(known)}"
        )
    return float(found[name])


def replay(records: Iterable[Mapping[str, Any]], rule: SelectionRule) -> Selection:
    """The choice after the last of ``records``, the lines of metrics.jsonl. Raises RecipeError."""
    selection = Selection(rule)
    for record in records:
        if VALIDATION in record:
            selection.add(int(record["step"]), record[VALIDATION], saved=bool(record.get(CHECKPOINT)))
    return selection
