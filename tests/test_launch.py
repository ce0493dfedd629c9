"""What torchrun and srun set in the environment is read; nonsense is refused with the name of the variable."""

from __future__ import annotations

import pytest

from tunesmith.errors import UsageError
from tunesmith.launch import REPORTING, LaunchedProcess, launched_process, reported_once, waiting_time

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}
SRUN = {"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "8", "SLURM_LOCALID": "1"}


@pytest.mark.parametrize("environment", [TORCHRUN, SRUN, {**SRUN, **TORCHRUN}])
def test_torchrun_and_srun_say_which_process_this_is(environment: dict[str, str]) -> None:
    assert launched_process(environment) == LaunchedProcess(rank=3, size=8, local_rank=1)


@pytest.mark.parametrize(
    "environment",
    [{}, {"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_LOCALID": "0"}, {"RANK": "0"}],
    ids=["no launcher", "a batch script", "half of a launcher"],
)
def test_a_process_that_no_launcher_started_is_alone(environment: dict[str, str]) -> None:
    assert launched_process(environment) == LaunchedProcess()


def test_the_local_rank_alone_chooses_a_gpu() -> None:
    assert launched_process({"LOCAL_RANK": "2"}) == LaunchedProcess(local_rank=2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"RANK": "first"}, "environment variable RANK: 'first' is no number of a process"),
        ({"LOCAL_RANK": "-1"}, "environment variable LOCAL_RANK: '-1' is no number"),
        ({"RANK": "8"}, "environment variables RANK, WORLD_SIZE: there is no process 8 of 8"),
        ({"RANK": ""}, "environment variable RANK: is not set"),
        ({"WORLD_SIZE": "²"}, "environment variable WORLD_SIZE"),
    ],
)
def test_values_that_make_no_sense_are_refused(changes: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        launched_process({**TORCHRUN, **changes})


@pytest.mark.parametrize(
    ("rank", "local_rank", "patience"),
    [(0, 0, 0), (1, 1, 2), (8, 0, 1), (9, 1, 2)],
    ids=["the first", "another of its machine", "the first of another machine", "another of another machine"],
)
def test_a_process_leaves_it_to_the_first_ones_to_report_a_mistake(rank: int, local_rank: int, patience: int) -> None:
    assert waiting_time(LaunchedProcess(rank, 16, local_rank)) == patience * REPORTING
    assert waiting_time(LaunchedProcess(0, 1, local_rank)) == 0


def test_a_mistake_is_reported_by_the_process_that_the_others_wait_for() -> None:
    with pytest.raises(UsageError, match="wrong"), reported_once(LaunchedProcess(0, 2, 0)):
        raise UsageError("wrong")
