"""The state of a run from its files: of one that trains, was killed, has ended, or is older than status files."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.train.run.test_directory import open_run
from tunesmith.train.run.directory import RunDirectory
from tunesmith.train.run.lock import is_in_use
from tunesmith.train.run.status import KILLED, RunStatus, find_status, read_status

FORK = multiprocessing.get_context("fork")
TRAINING = RunStatus("training", 3, 10, "2026-01-01T00:00:00+00:00", 5.0, checks=[])


def test_a_status_is_read_as_it_was_written(tmp_path: Path) -> None:
    status = RunStatus("failed", 3, 10, "now", 1.5, "why", [{"name": "a", "status": "pass", "summary": "b"}])
    status.write(tmp_path)
    assert read_status(tmp_path) == status


def test_a_run_that_is_open_trains(tmp_path: Path) -> None:
    with open_run(tmp_path / "run") as run:
        assert find_status(run.path).state == "training"
        TRAINING.write(run.path)
        assert find_status(run.path) == TRAINING
    assert not is_in_use(tmp_path / "run")


def _train_until_killed(directory: Path) -> None:
    with RunDirectory.open(directory, "name: x\n", notice=print) as run:
        run.record({}, print)
        TRAINING.write(directory)
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_run_that_was_killed_is_stopped(tmp_path: Path) -> None:
    process = FORK.Process(target=_train_until_killed, args=(tmp_path / "run",))
    process.start()
    process.join()
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "training"
    found = find_status(tmp_path / "run")
    assert (found.state, found.step, found.steps, found.reason) == ("stopped", 3, 10, KILLED)


def test_a_lock_of_another_process_that_holds_nothing_is_no_use(tmp_path: Path) -> None:
    """A process id may be that of another program now."""
    with open_run(tmp_path / "run") as run:
        left = (run.path / "lock").read_bytes()
    (tmp_path / "run").mkdir(exist_ok=True)
    (tmp_path / "run" / "lock").write_bytes(left)
    assert not is_in_use(tmp_path / "run")
    (tmp_path / "run" / "lock").write_bytes(left.replace(socket.gethostname().encode(), b"elsewhere"))
    assert is_in_use(tmp_path / "run"), "it cannot be seen from here"


@pytest.mark.parametrize(("export", "state"), [(True, "finished"), (False, "stopped")])
def test_a_run_of_an_earlier_version_is_known_by_its_export(tmp_path: Path, export: bool, state: str) -> None:
    if export:
        (tmp_path / "export").mkdir()
    assert find_status(tmp_path) == RunStatus(state)  # type: ignore[arg-type]


JSON = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.integers(), max_size=2)
)


@given(
    status=st.dictionaries(
        st.sampled_from(("state", "step", "steps", "updated", "remaining", "reason", "checks", "other")),
        JSON | st.sampled_from(("training", "finished")),
    ),
    lock=st.dictionaries(st.sampled_from(("pid", "host", "boot", "since")), JSON),
)
@example(status={}, lock={"pid": math.inf, "host": "here", "since": "", "boot": None})
def test_any_files_give_a_status(status: dict[str, Any], lock: dict[str, Any], tmp_path_factory: Any) -> None:
    directory = tmp_path_factory.mktemp("run")
    (directory / "status.json").write_text(json.dumps(status))
    (directory / "lock").write_text(json.dumps(lock))
    assert find_status(directory).state in ("training", "stopped", "finished")


@pytest.mark.parametrize(
    "values",
    [
        *({"remaining": value} for value in (math.inf, -math.inf, math.nan, -1.0, 10**400)),
        {"step": 10**400},
        {"steps": 10**400},
    ],
)
def test_a_status_with_a_number_that_no_run_has_is_none(tmp_path: Path, values: dict[str, Any]) -> None:
    TRAINING.write(tmp_path)
    content = json.loads((tmp_path / "status.json").read_text())
    (tmp_path / "status.json").write_text(json.dumps({**content, **values}))
    assert read_status(tmp_path) is None
    assert find_status(tmp_path) == RunStatus("stopped")
