"""What has come out of two runs, metric by metric, with intervals where the records allow them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from tunesmith.apps.provenance.effects import Outcome
from tunesmith.apps.provenance.recorded_run import RecordedRun
from tunesmith.evaluate.overlap import rouge_l
from tunesmith.report.metric_intervals import share_interval
from tunesmith.report.paired import paired_differences
from tunesmith.train.run.directory import METRICS
from tunesmith.train.run.history import RecordTail, RunHistory
from tunesmith.train.run.recorded_recipe import RecordedRecipe
from tunesmith.train.run.validation import ALL, STEP, VALIDATION

REPLY_METRICS = ("bleu", "rouge_l", "stopped")
PREDICTIONS = "predictions"
COUNTS = ("units", "targets", "prompts")


@dataclass(frozen=True, slots=True)
class OutcomeRow:
    """One metric of two runs.

    outcome: what it is about.
    name: of the metric.
    step: after which it was measured, in both runs; 0 for one of the whole run.
    before, after: the values; None if a run has none.
    before_interval, after_interval: confidence intervals of 95 %; None where the records do not allow one.
    difference_interval: of the difference, second less first, on the prompts that both have.
    """

    outcome: Outcome
    name: str
    step: int
    before: float | None
    after: float | None
    before_interval: tuple[float, float] | None = None
    after_interval: tuple[float, float] | None = None
    difference_interval: tuple[float, float] | None = None

    @property
    def is_same(self) -> bool:
        """Whether both runs have the same value, which may be NaN."""
        values = (self.before, self.after)
        return self.before == self.after or all(value is not None and math.isnan(value) for value in values)


def compare_outcomes(first: RecordedRun, second: RecordedRun) -> list[OutcomeRow]:
    """The metrics of the last evaluation that both have, of the last step that both have, and of the whole runs."""
    histories = (_history(first.directory), _history(second.directory))
    return [*_evaluation_rows(first, second, histories), *_training_rows(first, second), *_run_rows(histories)]


def _history(directory: Path) -> RunHistory:
    history = RunHistory.of(directory, RecordedRecipe.read(directory).rule())
    history.update()
    return history


def _evaluation_rows(
    first: RecordedRun, second: RecordedRun, histories: tuple[RunHistory, RunHistory]
) -> Iterator[OutcomeRow]:
    before, after = ({each.step: each for each in history.evaluations} for history in histories)
    step = max((step for step in before if step in after and step > 0), default=None)
    if step is None:
        return
    one, other = before[step].metrics.get(ALL, {}), after[step].metrics.get(ALL, {})
    for name in dict.fromkeys((*one, *other)):
        if name in COUNTS:
            continue
        outcome: Outcome = "replies" if name in REPLY_METRICS else "validation"
        paired = paired_interval(first.directory, second.directory, step) if name == "rouge_l" else None
        yield OutcomeRow(
            *(outcome, name, step, one.get(name), other.get(name)),
            before_interval=share_interval(name, one),
            after_interval=share_interval(name, other),
            difference_interval=paired,
        )


def paired_interval(first: Path, second: Path, step: int) -> tuple[float, float] | None:
    """The interval of the difference in ROUGE-L over the prompts to which both runs have written a reply."""
    scores = [_reply_scores(directory / PREDICTIONS / f"step-{step:06d}.jsonl") for directory in (first, second)]
    common = [prompt for prompt in scores[0] if prompt in scores[1]]
    if not common:
        return None
    differences = np.array([[scores[1][prompt] - scores[0][prompt]] for prompt in common])
    found = paired_differences(differences)[0]
    return (found.low, found.high) if math.isfinite(found.low) else None


def _reply_scores(path: Path) -> dict[tuple[str, ...], float]:
    """(prompt, references) -> ROUGE-L of its reply; lines that are no records are left out."""
    found: dict[tuple[str, ...], float] = {}
    if not path.is_file():
        return found
    for line in path.read_bytes().splitlines():
        try:
            record = json.loads(line)
            key = (str(record["prompt"]), *map(str, record["references"]))
            found[key] = rouge_l([str(record["reply"])], [key[1:]])
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
    return found


def _training_rows(first: RecordedRun, second: RecordedRun) -> Iterator[OutcomeRow]:
    """The loss of the first step in which it differs, and of the last step that both have."""
    before, after = (_losses(run.directory) for run in (first, second))
    steps = [step for step in before if step in after]
    different = (step for step in steps if before[step] != after[step])
    for step in dict.fromkeys((*islice(different, 1), *steps[-1:])):
        yield OutcomeRow("training", "loss", step, before[step], after[step])


def _losses(directory: Path) -> dict[int, float]:
    """Step -> loss."""
    records = RecordTail(directory / METRICS).read()
    values = ((record[STEP], record.get("loss")) for record in records if VALIDATION not in record)
    return {step: float(loss) for step, loss in values if isinstance(loss, int | float)}


def _run_rows(histories: tuple[RunHistory, RunHistory]) -> Iterator[OutcomeRow]:
    """The best checkpoint and the time of the whole runs."""
    best, steps, seconds = (
        [float(value) or None for value in values]
        for values in zip(
            *((each.selection.best, each.last.get(STEP, 0), each.seconds) for each in histories), strict=True
        )
    )
    yield OutcomeRow("best", "best checkpoint", 0, best[0], best[1])
    yield OutcomeRow("training", "steps", 0, steps[0], steps[1])
    yield OutcomeRow("speed", "seconds of all steps", 0, seconds[0], seconds[1])
