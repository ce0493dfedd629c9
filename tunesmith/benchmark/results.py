"""What a benchmark found: the outcome of every item, and the score of every task with its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tunesmith.benchmark.language_model import TaskWork
from tunesmith.benchmark.suites import DOLLY, MMLU
from tunesmith.benchmark.tasks import TaskData
from tunesmith.files import fingerprint
from tunesmith.report.intervals import Z_95, Rate


@dataclass(frozen=True, slots=True)
class ItemResult:
    """The outcome of one item.

    document: its number in the task.
    digest: SHA-256 of the item, from lm-evaluation-harness.
    value: the metric that the table shows.
    metrics: all metrics of the item.
    responses: log-likelihood of every answer and whether it is the greedy one, or the reply.
    target: what is right.
    """

    document: int
    digest: str
    value: float
    metrics: Mapping[str, Any]
    responses: tuple[Any, ...]
    target: Any


@dataclass(frozen=True, slots=True)
class TaskScore:
    """The score of one model in one task.

    task, version: of lm-evaluation-harness.
    metric: what ``score`` is, such as ``acc_norm`` or ``exact_match,strict-match``.
    score: the value of the metric over all items.
    others: the other metrics.
    items: the items in order.
    data: which split and which files.
    shots: examples in the prompt.
    work: tokens, and items that were too long; None where it is not known.
    """

    task: str
    version: str
    metric: str
    score: float
    others: Mapping[str, float]
    items: tuple[ItemResult, ...]
    data: TaskData
    shots: int
    work: TaskWork | None

    @property
    def values(self) -> tuple[float, ...]:
        """The value of every item."""
        return tuple(item.value for item in self.items)

    @property
    def items_digest(self) -> str:
        """SHA-256 of the digests of all items, whatever file or data set they are from."""
        return fingerprint([item.digest for item in self.items])

    @property
    def rate(self) -> Rate | None:
        """How many items are right; None where items are right in part."""
        is_binary = all(value in (0.0, 1.0) for value in self.values)
        return Rate(int(sum(self.values)), len(self.items)) if is_binary else None

    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval: Wilson's, or that of a mean where items are right in part."""
        if (rate := self.rate) is not None:
            return rate.interval()
        values = np.array(self.values)
        half = Z_95 * float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.inf
        return self.score - half, self.score + half


@dataclass(frozen=True, slots=True)
class ModelScores:
    """The scores of one model.

    label: how it is called in tables.
    path: as the user wrote it.
    prompts: ``plain``, or ``chat, format NAME``.
    engine: ``tree``, or ``hf`` for the model of lm-evaluation-harness.
    dtype: number format of the forward pass.
    fingerprint: digest of weights, configuration and tokenizer.
    tasks: the scores in the order that was asked for.
    notes: what a reader of the numbers should know.
    """

    label: str
    path: str
    prompts: str
    engine: str
    dtype: str
    fingerprint: str
    tasks: tuple[TaskScore, ...]
    notes: tuple[str, ...] = field(default=())

    def find(self, task: str) -> TaskScore | None:
        """The score in a task; None if it was not evaluated."""
        return next((score for score in self.tasks if score.task == task), None)

    @property
    def subject_scores(self) -> list[TaskScore]:
        """The scores in the subjects of MMLU; none for a single one."""
        found = [score for score in self.tasks if score.task.startswith(f"{MMLU}_")]
        return found if len(found) > 1 else []

    @property
    def subjects(self) -> Rate | None:
        """Right answers in all subjects of MMLU together, each item counting once; None without several subjects."""
        rates = [score.rate for score in self.subject_scores]
        if not rates:
            return None
        known = [rate for rate in rates if rate is not None]
        return Rate(sum(rate.successes for rate in known), sum(rate.total for rate in known))

    @property
    def card_values(self) -> dict[str, float] | None:
        """The seven values of the card of dolly; None if a task is missing."""
        found = {name: score.score for name in DOLLY if (score := self.find(name)) is not None}
        return found if len(found) == len(DOLLY) else None


def geometric_mean(values: Sequence[float]) -> float:
    """The n-th root of the product of n values that are not negative, as in the card of dolly."""
    return float(math.prod(values) ** (1 / len(values)))
