"""Callbacks of the training loop: records, progress, trackers, evaluation, checkpoints and stopping.

Each callback decides from the step alone whether it has to act, so a resumed run acts at the same steps as one that was
never stopped. The only exception is the checkpoint after a signal, which leaves no trace in the records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from tunesmith.errors import StoppedError, StorageError
from tunesmith.train.loop import StepResult, TrainingEnded
from tunesmith.train.optim.optimizers import Optimizer
from tunesmith.train.run import checkpoint
from tunesmith.train.run.agreement import in_first
from tunesmith.train.run.checkpoint_files import Checkpoint
from tunesmith.train.run.directory import RunDirectory
from tunesmith.train.run.exact_weights import OPTIMIZER, load_state
from tunesmith.train.run.finite_state import check_finite_checkpoint, check_finite_metrics, check_finite_state
from tunesmith.train.run.history import shown_record
from tunesmith.train.run.metrics import RecordFile, open_records, read_records
from tunesmith.train.run.selection import CheckpointSelection
from tunesmith.train.run.shown import ShownText
from tunesmith.train.run.trackers import Tracker
from tunesmith.train.run.validation import ALL, ValidationMetrics, flatten, validation_record
from tunesmith.train.run.view import View
from tunesmith.world import ALONE, Communicator

LEARNING_RATE = "learning_rate"
"""Key of a step's learning rate in metrics.jsonl."""

DIGESTS = "sha256"
"""Key of the digests of the records in the state of a checkpoint."""

WRITINGS = 2
"""How often a checkpoint is written before its disk counts as broken."""


def is_due(result: StepResult, every: int | None) -> bool:
    """Whether the step is the last one or a multiple of ``every``."""
    return result.done == result.total or (every is not None and result.done % every == 0)


@dataclass(frozen=True, slots=True)
class MetricsRecorder:
    """Writes a line for every step.

    metrics, consumed: the same bit for bit however often the run was stopped.
    timing: wall-clock times, which are not.
    """

    metrics: RecordFile
    consumed: RecordFile
    timing: RecordFile

    def __call__(self, result: StepResult) -> None:
        self.metrics.write(
            {
                "step": result.done,
                "epoch": result.epoch,
                **result.metrics,
                LEARNING_RATE: result.learning_rate,
                "gradient_norm": result.gradient_norm,
                "units": result.units,
                "tokens": result.tokens,
                "targets": result.targets,
                "examples": len(result.examples),
            }
        )
        self.consumed.write({"step": result.done, "epoch": result.epoch, "examples": list(result.examples)})
        self.timing.write({"step": result.done, "seconds": result.seconds, "tokens": result.tokens})

    def sync(self) -> dict[str, Any]:
        """Flush the reproducible files to the disk; returns their lengths and digests, for a checkpoint."""
        lengths = {"metrics": self.metrics.sync(), "consumed": self.consumed.sync()}
        return {**lengths, DIGESTS: {"metrics": self.metrics.digest(), "consumed": self.consumed.digest()}}

    def truncate(self, state: Mapping[str, Any]) -> None:
        """Cut the reproducible files to what they were when ``sync`` returned ``state``.

        Raises StorageError, before either file is changed, if one has another content.
        """
        files = {"metrics": self.metrics, "consumed": self.consumed}
        for name, digest in state.get(DIGESTS, {}).items():  # absent in checkpoints of earlier versions
            files[name].check(state[name], digest)
        for name, file in files.items():
            file.truncate(state[name])

    def clear(self) -> None:
        """Cut the reproducible files to nothing."""
        self.truncate({"metrics": 0, "consumed": 0})


@contextmanager
def open_recorder(run: RunDirectory) -> Iterator[MetricsRecorder]:
    """The recorder of a run, whose files are closed when the block ends. Raises StorageError."""
    with ExitStack() as stack:
        paths = (run.metrics, run.consumed, run.timing)
        yield MetricsRecorder(*(stack.enter_context(open_records(path, writes=run.is_owner)) for path in paths))


@dataclass(frozen=True, slots=True)
class ProgressCallback:
    """Displays every step."""

    view: View

    def __call__(self, result: StepResult) -> None:
        self.view.step(result)


@dataclass(frozen=True, slots=True)
class TrackerCallback:
    """Sends the metrics of steps and evaluations to all trackers."""

    trackers: Sequence[Tracker]

    def __call__(self, result: StepResult) -> None:
        values = {**result.metrics, "learning_rate": result.learning_rate, "gradient_norm": result.gradient_norm}
        self._log(result.done, values)

    def log_validation(self, step: int, metrics: ValidationMetrics) -> None:
        """Send the metrics of an evaluation after ``step`` steps."""
        self._log(step, flatten(metrics))

    def close(self) -> None:
        for tracker in self.trackers:
            tracker.close()

    def _log(self, step: int, values: Mapping[str, float]) -> None:
        for tracker in self.trackers:
            tracker.log(step, values)


@dataclass(frozen=True, slots=True)
class EvaluationCallback:
    """Evaluates the present weights, records the metrics, and adds them to the selection of checkpoints.

    evaluate: computes the metrics of the present weights.
    every: steps between evaluations.
    save_every: steps between checkpoints. They are evaluated too, since only an evaluated checkpoint can be the best.
    metrics: the file that gets a line for each evaluation.
    shown: the file that gets the texts.
    selection: of the best checkpoint.
    view, trackers: display the metrics.
    check: raises before weights are evaluated that are not finite; with them a metric may not even be computable.
    replies: writes replies after a step and returns further metrics of all sources together; None: no replies.
    texts: prompts and replies that are displayed after the metrics.
    """

    evaluate: Callable[[], ValidationMetrics]
    every: int | None
    save_every: int | None
    metrics: RecordFile
    shown: RecordFile
    selection: CheckpointSelection
    view: View
    trackers: TrackerCallback
    check: Callable[[int, Sequence[int]], None]
    replies: Callable[[int], Mapping[str, float]] | None = None
    texts: Callable[[], Sequence[ShownText]] = tuple

    def __call__(self, result: StepResult) -> None:
        saved = is_due(result, self.save_every)
        if saved or is_due(result, self.every):
            self.check(result.done, result.examples)
            self.run(result.done, saved=saved)

    def run(self, step: int, *, saved: bool = False) -> None:
        """Evaluate now, after ``step`` steps. saved: whether the step has a planned checkpoint.

        Raises InternalError if a metric is not finite.
        """
        found = {source: dict(metrics) for source, metrics in self.evaluate().items()}
        self.view.validation(step, found)
        check_finite_metrics(found, step)
        self.trackers.log_validation(step, found)
        if self.replies is not None:
            replies = self.replies(step)
            self.view.replies(step, replies)
            self.trackers.log_validation(step, {ALL: replies})
            found[ALL].update(replies)
        if texts := self.texts():
            self.view.texts(texts)
            self.shown.write(shown_record(step, texts))
        saved = saved or (self.selection.rule.save_wins and self.selection.wins(step, found))
        self.selection.add(step, found, saved=saved)
        self.metrics.write(validation_record(step, found, saved=saved))


@dataclass(slots=True)
class Checkpointer:
    """Saves and restores the state of the run, and deletes checkpoints that are no longer needed.

    directory: of all checkpoints.
    modules: name of a file in a checkpoint -> the module whose weights it holds.
    optimizer: its state is saved too.
    parameters: those that it updates, by the names in its state.
    facts: stored in the manifest of each checkpoint.
    every: steps between checkpoints; None: only the last step. A step that the selection keeps is saved as well.
    keep: newest checkpoints that are kept, next to those that the selection keeps.
    recorder: its files are cut to the lengths in the checkpoint when the run resumes.
    selection: of the best checkpoint.
    view: displays what was saved, and warnings.
    world: the processes of the run.
    saved: step of the last checkpoint.
    """

    directory: Path
    modules: Mapping[str, nn.Module]
    optimizer: Optimizer
    facts: Mapping[str, str]
    every: int | None
    keep: int
    recorder: MetricsRecorder
    selection: CheckpointSelection
    view: View
    world: Communicator = ALONE
    parameters: Mapping[str, nn.Parameter] = field(default_factory=dict)
    saved: int = 0

    def __call__(self, result: StepResult) -> None:
        if is_due(result, self.every) or result.done in self.selection.kept:
            self.save(result.done, result.examples)

    def check(self, step: int, examples: Sequence[int] = ()) -> None:
        """Raises InternalError if a weight or the state of the optimizer is not finite after a step.

        An evaluation asks before it begins. ``save`` asks again, because it is what makes a number lasting.
        """
        check_finite_state(self.modules, self.optimizer.state_dict(), step, self.saved, examples)

    def tensors(self) -> dict[str, Mapping[str, Tensor]]:
        """The groups of tensors of a checkpoint: those of every module, and the state of the optimizer."""
        groups: dict[str, Mapping[str, Tensor]] = {name: each.state_dict() for name, each in self.modules.items()}
        return groups | {OPTIMIZER: self.optimizer.state_dict()}

    def save(self, step: int, examples: Sequence[int] = ()) -> None:
        """Save now, unless this step is saved already. It is read back, and written again if it was damaged.

        examples: of the step, which are named if it has left numbers that are not finite.
        Raises InternalError if a weight or the state of the optimizer is not finite, StorageError.
        """
        if step == self.saved:
            return
        self.check(step, examples)
        state = {**self.recorder.sync(), "best": self.selection.best}
        for _ in range(WRITINGS):
            path = checkpoint.save(self.directory, step, self.tensors(), state, self.facts, self.world)
            checkpoint.rotate(self.directory, self.keep, self.selection.kept, self.view.warn, self.world)
            if in_first(self.world, path.is_dir):  # otherwise it was damaged, and has another name now
                self.view.saved(step)
                self.saved = step
                return
        raise StorageError(
            f"the checkpoint of step {step} was damaged as soon as it was written, {WRITINGS} times",
            where=self.directory,
            advice="the disk does not give back what it is given; choose another run.directory; earlier checkpoints "
            "are valid",
        )

    def restore(self, found: Checkpoint) -> None:
        """Load weights, optimizer state, records and selection of a checkpoint, and delete those that it replaces.

        Raises StorageError.
        """
        load_state(found, self.modules, self.optimizer.state_dict(), self.parameters)
        check_finite_checkpoint(self.modules, self.optimizer.state_dict(), found.path)
        self.world.in_turn(lambda: self._restore_records(found.state))
        self.saved = found.step
        rotation = (self.directory, self.keep, self.selection.kept, self.view.warn, self.world)
        if checkpoint.has_surplus(*rotation):  # a kill came between the last save and its rotation
            checkpoint.rotate(*rotation)

    def _restore_records(self, state: Mapping[str, Any]) -> None:
        self.recorder.truncate(state)
        self.selection.add_records(read_records(self.recorder.metrics.path))


@dataclass(frozen=True, slots=True)
class PatienceCallback:
    """Ends training early when the model no longer gets better, and saves a checkpoint of the last step.

    patience: evaluations in a row that are not better than the best one; None: training has its full length.
    checkpointer: has the evaluations so far, and saves before training ends.
    """

    patience: int | None
    checkpointer: Checkpointer

    def is_exhausted(self) -> bool:
        """Whether the evaluations so far end training."""
        return self.patience is not None and self.checkpointer.selection.evaluations_without_win >= self.patience

    def __call__(self, result: StepResult) -> None:
        """Raises TrainingEnded if the last evaluations were not better than the best one."""
        if result.done in self.checkpointer.selection.evaluated and self.is_exhausted():
            self.checkpointer.save(result.done, result.examples)
            raise TrainingEnded


@dataclass(frozen=True, slots=True)
class StopCallback:
    """Saves a checkpoint and ends the run after a signal, or after a step that the recipe names.

    signal: name of the signal that was received, or None.
    stop_after: the step that the recipe names.
    checkpointer: saves before the run ends.
    """

    signal: Callable[[], str | None]
    stop_after: int | None
    checkpointer: Checkpointer

    def __call__(self, result: StepResult) -> None:
        """Raises StoppedError if the run has to end before its last step."""
        reason = self.checkpointer.world.agree(self.signal())
        if reason is None and result.done == self.stop_after:
            reason = f"train.stop_after is {self.stop_after}"
        if reason is None or result.done == result.total:
            return
        self.checkpointer.save(result.done, result.examples)
        raise StoppedError(
            f"stopped after step {result.done} of {result.total} ({reason}): a checkpoint is saved, and the same "
            "command continues the run"
        )
