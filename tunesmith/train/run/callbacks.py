"""What happens after an optimizer step: it is recorded, now and then evaluated and saved, and perhaps the run is stopped.

Each action decides from the step alone whether it is due, so an interrupted and resumed run does the same things at the
same steps. Only an unplanned checkpoint (a signal) differs, and it leaves no trace in the record.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from tunesmith.errors import StoppedError
from tunesmith.train.loop import StepResult
from tunesmith.train.run.metrics import JsonLines
from tunesmith.train.run.selection import ALL, CHECKPOINT, VALIDATION, Selection

Tracker = Callable[[int, Mapping[str, float]], None]


Scores = Mapping[str, Mapping[str, float]]
"""What an evaluation says: source -> name of a measure -> value, and all sources together under "all"."""


def due(result: StepResult, every: int | None) -> bool:
    """Every so many steps, and after the last one."""
    return result.done == result.total or (every is not None and result.done % every == 0)


@dataclass(slots=True)
class Record:
    """The files of a run that are the same to the bit however often it was stopped, and the timing, which is not."""

    metrics: JsonLines
    consumed: JsonLines
    timing: JsonLines

    def __call__(self, result: StepResult) -> None:
        self.metrics.write(
            {
                "step": result.done,
                "epoch": result.epoch,
                **result.metrics,
                "learning_rate": result.learning_rate,
                "gradient_norm": result.gradient_norm,
                "units": result.units,
                "tokens": result.tokens,
                "targets": result.targets,
                "examples": len(result.examples),
            }
        )
        self.consumed.write({"step": result.done, "epoch": result.epoch, "examples": list(result.examples)})
        self.timing.write({"step": result.done, "seconds": result.seconds, "tokens": result.tokens})

    def position(self) -> dict[str, int]:
        """Where the reproducible files end, for a checkpoint; they are on disk when this returns."""
        return {"metrics": self.metrics.sync(), "consumed": self.consumed.sync()}

    def return_to(self, position: Mapping[str, int]) -> None:
        """Forget everything written after ``position``."""
        self.metrics.truncate(position["metrics"])
        self.consumed.truncate(position["consumed"])


@dataclass(slots=True)
class EvaluationCallback:
    """Runs an evaluation where it is due, records it, and tells the selection of checkpoints.

    scores: evaluates the present weights. every: steps between evaluations. save_every: a
    checkpoint is evaluated too, since only then it can be the best. replies: further measures of "all" after a step, from
    replies that the model writes; None if it writes none.
    """

    scores: Callable[[], Scores]
    every: int | None
    save_every: int | None
    metrics: JsonLines
    shown: Callable[[int, Scores], None]
    selection: Selection
    replies: Callable[[int], Mapping[str, float]] | None = None

    def __call__(self, result: StepResult) -> None:
        saved = due(result, self.save_every)
        if saved or due(result, self.every):
            self.run(result.done, saved=saved)

    def run(self, step: int, *, saved: bool = False) -> None:
        """Evaluate now, after ``step`` steps. saved: whether the plan has a checkpoint of this step."""
        scores = self.scores()
        validation = {name: dict(metrics) for name, metrics in scores.items()}
        self.shown(step, scores)
        if self.replies is not None:
            validation[ALL].update(self.replies(step))
        self.selection.add(step, validation, saved=saved)
        self.metrics.write({"step": step, CHECKPOINT: saved, VALIDATION: validation})


@dataclass(slots=True)
class Checkpointer:
    """Checkpoints where they are due.

    write: makes the checkpoint of a step with a JSON state, and keeps those of the given steps whatever their age.
    selection: which steps those are. saved: the step that was saved last.
    """

    write: Callable[[int, Mapping[str, Any], Collection[int]], None]
    every: int | None
    record: Record
    selection: Selection
    saved: int = 0

    def __call__(self, result: StepResult) -> None:
        if due(result, self.every):
            self.save(result.done)

    def save(self, step: int) -> None:
        """Save now, unless this step is saved already."""
        if step == self.saved:
            return
        self.write(step, {**self.record.position(), "best": self.selection.best}, self.selection.kept)
        self.saved = step


@dataclass(slots=True)
class StopCallback:
    """Save and leave where a signal asked for it, or at a step named beforehand."""

    requested: Callable[[], str | None]
    stop_after: int | None
    saving: Checkpointer

    def __call__(self, result: StepResult) -> None:
        reason = self.requested()
        if reason is None and result.done == self.stop_after:
            reason = f"train.stop_after is {self.stop_after}"
        if reason is None or result.done == result.total:
            return
        self.saving.save(result.done)
        raise StoppedError(
            f"stopped after step {result.done} of {result.total} ({reason}); everything is saved",
            advice="the same command goes on from here",
        )
