"""Which checkpoint of a run is the best: a rule over several metrics, a pure function of metrics.jsonl.

The rule. Among all evaluations so far, every metric ranks the steps. Rank 1 is the best, equal values share the mean of
their ranks, and a value that is not finite is the worst. The mean rank of a step is the weighted mean of its ranks over
the metrics. The lowest mean rank wins, and the earlier step where mean ranks are equal.

What is kept. Only a step with a checkpoint can be chosen: the steps of ``train.save_every``, and with
``train.best.save`` wins also every step that is the best when it is evaluated. A step is dominated if another one is at
least as good in every metric. A dominated step cannot win, whatever follows, so its checkpoint is deleted. The others
(the Pareto front) are kept, at most ``keep`` of them, those of the lowest mean rank so far. One that falls out stays
out, even if later evaluations would improve its rank. So the choice is among checkpoints that exist, and reading
metrics.jsonl from its first line to its last gives the same choice as the run itself.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tunesmith.errors import RecipeError
from tunesmith.train.run.validation import ALL, CHECKPOINT, STEP, VALIDATION, metric_name

Mode = Literal["min", "max"]


@dataclass(frozen=True, slots=True)
class SelectionMetric:
    """A metric that ranks checkpoints.

    name: ``validation/loss``, or ``validation/SOURCE/loss`` for one source. The metric itself may contain slashes.
    mode: whether the lowest or the highest value is the best.
    weight: of its ranks in the mean.
    """

    name: str
    mode: Mode = "min"
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class SelectionRule:
    """How the best checkpoint is chosen.

    metrics: at least one.
    save_wins: whether a step that is the best when it is evaluated gets a checkpoint without a plan.
    keep: how many checkpoints that can still be chosen are kept.
    """

    metrics: tuple[SelectionMetric, ...] = (SelectionMetric(f"{VALIDATION}/loss"),)
    save_wins: bool = True
    keep: int = 1


@dataclass(frozen=True, slots=True)
class RankedStep:
    """One evaluated step.

    step: optimizer steps done.
    values, ranks: in the order of the rule's metrics.
    mean_rank: weighted mean of the ranks.
    kept: whether it can be chosen.
    """

    step: int
    values: tuple[float, ...]
    ranks: tuple[float, ...]
    mean_rank: float
    kept: bool


@dataclass(slots=True)
class CheckpointSelection:
    """The choice after some evaluations, which are added in the order of their steps.

    rule: how the best is chosen.
    evaluated: step -> values, in the order of the rule's metrics.
    kept: the steps that can be chosen, the best first.
    """

    rule: SelectionRule
    evaluated: dict[int, tuple[float, ...]] = field(default_factory=dict)
    kept: tuple[int, ...] = ()

    @property
    def best(self) -> int:
        """The chosen step; 0 if there is none."""
        return self.kept[0] if self.kept else 0

    @property
    def evaluations_without_win(self) -> int:
        """How many evaluations came after the best one, whether it was saved or not."""
        ranking = self.ranking()
        best = min(ranking, key=lambda ranked: (ranked.mean_rank, ranked.step)).step if ranking else 0
        return sum(ranked.step > best for ranked in ranking)

    def wins(self, step: int, validation: Mapping[str, Mapping[str, Any]]) -> bool:
        """Whether an evaluation that is not added yet would be the best if its step were saved; nothing is changed.

        Raises as ``add``.
        """
        trial = CheckpointSelection(self.rule, dict(self.evaluated), self.kept)
        trial.add(step, validation, saved=True)
        return trial.best == step != 0 and all(map(math.isfinite, trial.evaluated[step]))

    def add(self, step: int, validation: Mapping[str, Mapping[str, Any]], *, saved: bool) -> None:
        """Add an evaluation. The untrained model (step 0) is not ranked.

        validation: source -> metric -> value, as in metrics.jsonl.
        saved: whether the step has a checkpoint.
        Raises RecipeError for a metric that the evaluation does not have.
        """
        values = tuple(_value(metric, validation) for metric in self.rule.metrics)
        if step == 0:
            return
        assert step > max(self.evaluated, default=0), "evaluations come in the order of their steps"
        self.evaluated[step] = values
        candidates = (*sorted(self.kept), *((step,) if saved else ()))
        mean_ranks = {ranked.step: ranked.mean_rank for ranked in self.ranking()}
        front = [each for each in candidates if not any(self._dominates(other, each) for other in candidates)]
        self.kept = tuple(sorted(front, key=lambda each: (mean_ranks[each], each))[: self.rule.keep])

    def add_records(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Add the evaluations among the lines of metrics.jsonl. Raises RecipeError."""
        for record in records:
            if VALIDATION in record:
                self.add(int(record[STEP]), record[VALIDATION], saved=bool(record.get(CHECKPOINT)))

    def ranking(self) -> list[RankedStep]:
        """Every evaluated step with its present ranks, in the order of the steps."""
        steps = list(self.evaluated)
        columns = [
            ranks([self.evaluated[step][index] for step in steps], metric.mode)
            for index, metric in enumerate(self.rule.metrics)
        ]
        weights = [metric.weight for metric in self.rule.metrics]
        ranking = []
        for index, step in enumerate(steps):
            row = tuple(column[index] for column in columns)
            mean = math.fsum(weight * rank for weight, rank in zip(weights, row, strict=True)) / math.fsum(weights)
            ranking.append(RankedStep(step, self.evaluated[step], row, mean, step in self.kept))
        return ranking

    def _dominates(self, one: int, other: int) -> bool:
        """Whether step ``other`` can never be chosen while step ``one`` is kept."""
        costs = [
            (_cost(a, metric.mode), _cost(b, metric.mode))
            for a, b, metric in zip(self.evaluated[one], self.evaluated[other], self.rule.metrics, strict=True)
        ]
        return all(a <= b for a, b in costs) and (any(a < b for a, b in costs) or one < other)


def ranks(values: Sequence[float], mode: Mode) -> list[float]:
    """The rank of each value: 1 for the best; equal values share the mean of the ranks that they occupy."""
    costs = [_cost(value, mode) for value in values]
    order = sorted(costs)
    return [(bisect_left(order, cost) + 1 + bisect_right(order, cost)) / 2 for cost in costs]


def _cost(value: float, mode: Mode) -> float:
    """A number that is lower for better values; infinity if the value is not finite."""
    if not math.isfinite(value):
        return math.inf
    return value if mode == "min" else -value


def _value(metric: SelectionMetric, validation: Mapping[str, Mapping[str, Any]]) -> float:
    """The value of a metric in one evaluation; metrics.jsonl has numbers that are not finite as text."""
    root, _, name = metric.name.partition("/")
    source = ALL
    if name not in validation.get(ALL, {}):
        source, _, name = name.partition("/")
    found = validation.get(source, {})
    if root != VALIDATION or name not in found:
        known = [
            f"{VALIDATION}/{name}" if source == ALL else metric_name(source, name)
            for source, metrics in validation.items()
            for name in metrics
        ]
        raise RecipeError(
            f"there is no metric {metric.name!r}", where="train.best.metrics", advice=f"there are {', '.join(known)}"
        )
    return float(found[name])


def select_checkpoint(records: Iterable[Mapping[str, Any]], rule: SelectionRule) -> CheckpointSelection:
    """The choice after all ``records``, the lines of metrics.jsonl. Raises RecipeError."""
    selection = CheckpointSelection(rule)
    selection.add_records(records)
    return selection
