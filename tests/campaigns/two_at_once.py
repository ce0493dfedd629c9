"""Start 2 to 8 trainings at once, in one run directory or on one cache: one writes, and the bits are the same.

    python -m tests.campaigns.two_at_once [--trials 100] [--seed 0] [--json FILE]

The first process, or in some trials the one that trains, is killed at a random moment. A trial holds if

- in one directory at most one process trains and ends with 0; each of the others ends with 76 and names it, or comes
  after the end, finds the run complete and ends with 0;
- on one cache every process that was not killed ends with 0;
- no process prints a traceback, and after one more start of each run all files equal those of a run that was alone.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from tests.campaigns.fault_worlds import FaultWorld, campaign_parser, finish, report_trial
from tests.campaigns.forked_command import TRACEBACK, EndedCommand, ForkedCommand, run_command, start_command
from tests.campaigns.system_calls import contents, differences

METHODS = ("sft", "dpo", "ppo")
COMPLETE = "the run is complete"
"""What a process prints that has nothing left to train."""


@dataclass(frozen=True, slots=True)
class SharedTrial:
    """Processes that start at once.

    method: of training.
    processes: how many.
    place: what they share, "run" or "cache".
    kill: seconds after which one of them is killed; None: none is.
    waits: seconds before each of them.
    has_cache: whether the data are tokenised already.
    """

    method: str
    processes: int
    place: str
    kill: float | None
    waits: tuple[float, ...]
    has_cache: bool


def trials(count: int, draw: random.Random) -> Iterator[SharedTrial]:
    for number in range(count):
        place = "cache" if number % 5 == 4 else "run"
        processes = draw.randint(2, 8) if place == "run" else draw.randint(2, 4)
        kill = None if number % 2 else draw.uniform(0.0, 1.0)
        together = draw.random() < 0.5
        waits = (0.0, *(0.0 if together else draw.uniform(0.0, 0.1) for _ in range(processes - 1)))
        yield SharedTrial(METHODS[number % len(METHODS)], processes, place, kill, waits, draw.random() < 0.5)


def run_trial(world: FaultWorld, trial: SharedTrial) -> list[str]:
    """What does not hold; empty if the trial holds."""
    world.expected()
    world.remove(cache=not trial.has_cache)
    runs = [world.run]
    if trial.place == "cache":
        runs = [world.root / f"run-{number}" for number in range(trial.processes)]
    logs = [world.root / f"log-{number}.txt" for number in range(trial.processes)]
    words = [[*world.words(), f"run.directory={runs[number % len(runs)]}"] for number in range(trial.processes)]
    killed, ended = _start_all(words, logs, trial)
    wrong = [f"process {number} printed a traceback" for number, each in enumerate(ended) if TRACEBACK in each.text]
    wrong += _find_wrong_codes(trial, [each for number, each in enumerate(ended) if number != killed])
    for run, given in zip(runs, words, strict=False):
        again = run_command(given, world.log)
        if again.code != 0:
            wrong.append(f"the next start ended with {again.code}: {again.last_line()}")
        elif changed := _differences(world, run):
            wrong.append(f"after the next start: {changed}")
        shutil.rmtree(run, ignore_errors=True)
    return wrong


def _differences(world: FaultWorld, run: Path) -> str:
    """The recipe holds the directory, so it differs between runs at several places."""
    expected, found = ({**each} for each in (world.expected(), contents(run)))
    if run != world.run:
        for each in (expected, found):
            for name in [name for name in each if name.endswith("recipe.yaml")]:
                del each[name]
    return differences(expected, found, "")


def _start_all(
    words: Sequence[Sequence[str]], logs: Sequence[Path], trial: SharedTrial
) -> tuple[int | None, list[EndedCommand]]:
    """(the process that was killed, how all have ended)."""
    ours, theirs = os.pipe()  # processes that start together wait until it is closed

    def hold() -> None:
        os.close(theirs)
        if not any(trial.waits):
            os.read(ours, 1)

    started: list[ForkedCommand] = []
    for given, log, pause in zip(words, logs, trial.waits, strict=True):
        time.sleep(pause)
        started.append(start_command(given, log, hold))
    os.close(theirs)
    os.close(ours)
    if trial.kill is None:
        return None, [each.wait() for each in started]
    time.sleep(trial.kill)
    killed = 0 if trial.place == "cache" else _find_owner(started)
    with suppress(ProcessLookupError):
        started[killed].send(signal.SIGKILL)
    ended = [each.wait() for each in started]
    return (killed if ended[killed].code == -signal.SIGKILL else None), ended


def _find_owner(started: Sequence[ForkedCommand]) -> int:
    """The process that trains: one that has not refused."""
    refused = ["another process writes" in each.log.read_text(errors="replace") for each in started]
    return next((number for number, each in enumerate(refused) if not each), 0)


def _find_wrong_codes(trial: SharedTrial, ended: Sequence[EndedCommand]) -> Iterator[str]:
    codes = [each.code for each in ended]
    late = [each for each in ended if each.code == 0 and COMPLETE in each.text]
    if trial.place == "cache":
        if any(codes):
            yield f"the exit codes are {codes}"
        return
    trained = [each.code for each in ended if each.code != 76 and each not in late]
    if len(trained) > 1 or any(trained) or (trial.kill is None and not trained):
        yield f"the exit codes are {codes}"
    for each in ended:
        if each.code == 76 and "another process writes to this run" not in each.text:
            yield f"the refusal names no process: {each.last_line()}"


def campaign(root: Path, count: int, seed: int) -> tuple[dict[str, object], list[dict[str, object]]]:
    """The figures, and the trials that do not hold."""
    worlds, failed, held = dict[str, FaultWorld](), list[dict[str, object]](), Counter[str]()
    for number, trial in enumerate(trials(count, random.Random(seed))):
        if trial.method not in worlds:
            worlds[trial.method] = FaultWorld(root / trial.method, trial.method)
        wrong = run_trial(worlds[trial.method], trial)
        held[f"{trial.place}, {'no kill' if trial.kill is None else 'one killed'}"] += not wrong
        report_trial(number, count, str(trial), wrong)
        if wrong:
            failed.append({**asdict(trial), "wrong": wrong})
    return {"held": dict(held)}, failed


def main() -> None:
    options = campaign_parser(__doc__, 100).parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as directory:
        figures, failed = campaign(Path(directory).resolve(), options.trials, options.seed)
    finish("groups of trainings had one winner and the same bits", figures, failed, options.trials, options.json)


if __name__ == "__main__":
    main()
