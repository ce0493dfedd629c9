"""The terminal of a run is closed, or its log cannot be written: nothing that was trained is lost."""

from __future__ import annotations

import fcntl
import os
import pty
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from tests.worlds import small_recipe, write_world
from tunesmith.compose import train_recipe
from tunesmith.errors import StoppedError
from tunesmith.train.run import checkpoint
from tunesmith.train.run.metrics import read_records

COMMAND = [sys.executable, "-m", "tunesmith.cli", "train"]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    found = write_world(root)
    found.write_text(
        found.read_text().replace("steps: 30", "steps: 20000").replace("save_every: 7", "save_every: null")
    )
    return found


def _take_terminal() -> None:
    """Make standard input the controlling terminal of this process, so that its end sends SIGHUP."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def wait_for_steps(run: Path, count: int) -> None:
    metrics, deadline = run / "metrics.jsonl", time.monotonic() + 120
    while not metrics.exists() or metrics.read_bytes().count(b"\n") < count:
        assert time.monotonic() < deadline, "training did not begin"
        time.sleep(0.05)


def test_a_run_whose_terminal_is_closed_saves_its_progress(recipe: Path) -> None:
    master, slave = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, str(recipe)],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        preexec_fn=_take_terminal,
    ) as process:
        os.close(slave)
        os.set_blocking(master, False)
        run = recipe.parent / "run"
        wait_for_steps(run, 20)
        os.close(master)
        assert process.wait(60) in (75, 120), "120 is Python's code when the last flush of a standard stream fails"
    found = checkpoint.newest(run / "checkpoints", pytest.fail)
    assert found is not None
    assert found.step >= 15
    with pytest.raises(StoppedError):
        train_recipe(small_recipe(recipe.parent, [f"train.stop_after={found.step + 2}"]))


def test_a_run_that_is_killed_goes_on_from_its_last_checkpoint_and_says_so(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = recipe.parent / "killed"
    words = [f"run.directory={run}", "train.save_every=10"]
    with subprocess.Popen([*COMMAND, str(recipe), *words], stderr=subprocess.DEVNULL) as process:
        wait_for_steps(run, 25)
        process.kill()
    found = checkpoint.newest(run / "checkpoints", pytest.fail)
    assert found is not None
    capsys.readouterr()
    with pytest.raises(StoppedError):
        train_recipe(small_recipe(recipe.parent, [*words, f"train.stop_after={found.step + 3}"]))
    said = capsys.readouterr().err
    assert f"the run was killed before: process {process.pid} on " in said
    assert f"resuming after step {found.step} of 20000" in said
    steps = [record["step"] for record in read_records(run / "metrics.jsonl") if "loss" in record]
    assert steps == list(range(1, found.step + 4)), "no step is missing, and none is there twice"


def test_a_log_that_cannot_be_written_does_not_end_training(recipe: Path) -> None:
    directory = recipe.parent / "full"
    with Path("/dev/full").open("w") as full:
        words = [f"run.directory={directory}", "train.stop_after=30", "train.log_every=1"]
        code = subprocess.run([*COMMAND, str(recipe), *words], stdout=full, stderr=full, check=False).returncode
    assert code in (75, 120)
    found = checkpoint.newest(directory / "checkpoints", pytest.fail)
    assert found is not None
    assert found.step == 30
