"""A checkpoint that is called saved can be read back, and a rotation that a kill prevented is made up for."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from tunesmith.errors import InternalError, StorageError
from tunesmith.train.optim.optimizers import AdamW
from tunesmith.train.run import checkpoint
from tunesmith.train.run.callbacks import Checkpointer, MetricsRecorder
from tunesmith.train.run.metrics import JsonLines
from tunesmith.train.run.selection import CheckpointSelection, SelectionMetric, SelectionRule
from tunesmith.train.run.validation import validation_record
from tunesmith.train.run.view import PlainView


def make_checkpointer(directory: Path, shown: io.StringIO, *, keep: int = 2) -> Checkpointer:
    """A checkpointer of a model with one weight. shown: gets what the user sees."""
    model = torch.nn.Linear(1, 1, bias=False)
    return Checkpointer(
        directory / "checkpoints",
        {"model": model},
        AdamW(dict(model.named_parameters())),
        {},
        1,
        keep,
        MetricsRecorder(*(JsonLines(directory / f"{name}.jsonl") for name in ("metrics", "consumed", "timing"))),
        CheckpointSelection(SelectionRule((SelectionMetric("validation/loss", "min"),))),
        PlainView(Console(file=shown, width=500), (), None),
    )


def move(checkpointer: Checkpointer) -> None:
    """One step of the optimizer, after which every weight and moment is another one."""
    for each in checkpointer.modules["model"].parameters():
        each.grad = torch.full_like(each, 0.5)
    checkpointer.optimizer.step(0.1)
    checkpointer.optimizer.zero_grad()


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in (directory / "checkpoints").iterdir())


def damage_after_saving(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """The disk loses a bit of the weights of so many checkpoints, after they were flushed."""
    save, left = checkpoint.save, iter(range(times))

    def damaged(*given: Any) -> Path:
        path = save(*given)
        if next(left, None) is not None:
            content = bytearray((path / "model.safetensors").read_bytes())
            content[-1] ^= 1
            (path / "model.safetensors").write_bytes(content)
        return path

    monkeypatch.setattr(checkpoint, "save", damaged)


def test_a_checkpoint_that_was_damaged_at_once_is_written_again_and_called_saved_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = io.StringIO()
    checkpointer = make_checkpointer(tmp_path, shown)
    checkpointer.save(1)
    damage_after_saving(monkeypatch, 1)
    checkpointer.save(2)
    assert names(tmp_path) == ["damaged-step-000002", "step-000001", "step-000002"]
    assert shown.getvalue().count("saved") == 2
    found = checkpoint.newest(tmp_path / "checkpoints", pytest.fail)
    assert found is not None
    assert (found.step, checkpointer.saved) == (2, 2)


def test_a_disk_that_damages_every_checkpoint_ends_the_run_and_none_is_called_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = io.StringIO()
    checkpointer = make_checkpointer(tmp_path, shown)
    checkpointer.save(1)
    damage_after_saving(monkeypatch, 9)
    with pytest.raises(StorageError, match=r"step 2 was damaged as soon as it was written, 2 times; .* are valid"):
        checkpointer.save(2)
    assert shown.getvalue().count("saved") == 1
    assert checkpointer.saved == 1
    found = checkpoint.newest(tmp_path / "checkpoints", pytest.fail)
    assert found is not None
    assert found.step == 1


def test_a_rotation_that_a_kill_prevented_is_made_up_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpointer = make_checkpointer(tmp_path, io.StringIO())
    for step in (1, 2):
        checkpointer.save(step)

    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(checkpoint, "rotate", kill)
        with pytest.raises(KeyboardInterrupt):
            checkpointer.save(3)
    assert names(tmp_path) == ["step-000001", "step-000002", "step-000003"]
    again = make_checkpointer(tmp_path, io.StringIO())
    found = checkpoint.newest(tmp_path / "checkpoints", pytest.fail)
    assert found is not None
    again.restore(found)
    assert names(tmp_path) == ["step-000002", "step-000003"]


def test_a_resumed_run_reads_no_checkpoint_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpointer = make_checkpointer(tmp_path, io.StringIO())
    for step in (1, 2, 3):
        checkpointer.save(step)
    found = checkpoint.newest(tmp_path / "checkpoints", pytest.fail)
    assert found is not None
    monkeypatch.setattr(checkpoint, "rotate", lambda *_: pytest.fail("nothing is left to delete"))
    make_checkpointer(tmp_path, io.StringIO()).restore(found)


def test_a_restored_run_has_the_weights_moments_records_and_choice_of_its_checkpoint(tmp_path: Path) -> None:
    """What was done after the checkpoint is undone, as if the process had been killed there."""
    first = make_checkpointer(tmp_path, io.StringIO(), keep=1)
    for step, loss in ((1, 0.5), (2, 0.75), (3, 0.25)):  # the last one is not saved
        move(first)
        first.selection.add(step, {"all": {"loss": loss}}, saved=True)
        first.recorder.metrics.write(validation_record(step, {"all": {"loss": loss}}, saved=True))
        if step == 2:
            first.save(2)
            kept = {name: tensor.clone() for group in first.tensors().values() for name, tensor in group.items()}
            lines = first.recorder.metrics.path.read_bytes()
    again = make_checkpointer(tmp_path, io.StringIO(), keep=1)
    found = checkpoint.newest(tmp_path / "checkpoints", pytest.fail)
    assert found is not None
    again.restore(found)
    for group in again.tensors().values():
        for name, tensor in group.items():
            assert torch.equal(tensor, kept[name]), name
    assert again.recorder.metrics.path.read_bytes() == lines
    assert (again.selection.evaluated, again.selection.best, again.saved) == ({1: (0.5,), 2: (0.75,)}, 1, 2)


def test_a_record_that_was_edited_before_the_checkpoint_stops_a_resumed_run(tmp_path: Path) -> None:
    first = make_checkpointer(tmp_path, io.StringIO())
    first.recorder.metrics.write({"step": 1, "loss": 0.5})
    first.save(1)
    path = first.recorder.metrics.path
    path.write_bytes(path.read_bytes().replace(b"0.5", b"0.4"))
    found = checkpoint.newest(tmp_path / "checkpoints", pytest.fail)
    assert found is not None
    with pytest.raises(StorageError, match="not those that the checkpoint was saved with"):
        make_checkpointer(tmp_path, io.StringIO()).restore(found)


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    checkpointer = make_checkpointer(tmp_path, io.StringIO())
    checkpointer.save(1)
    with torch.no_grad():
        next(checkpointer.modules["model"].parameters()).fill_(float("nan"))
    with pytest.raises(InternalError, match="so nothing was saved; the checkpoint of step 1 is valid"):
        checkpointer.save(2)
    assert names(tmp_path) == ["step-000001"]


def test_a_number_that_changes_between_an_evaluation_and_the_save_is_not_saved(tmp_path: Path) -> None:
    checkpointer = make_checkpointer(tmp_path, io.StringIO())
    checkpointer.check(1)  # before its weights are evaluated
    with torch.no_grad():
        checkpointer.modules["model"].weight.fill_(float("nan"))
    with pytest.raises(InternalError, match="so nothing was saved"):
        checkpointer.save(1)
    assert not (tmp_path / "checkpoints").exists()
