"""Send stop signals in every phase of training: documented exit codes, no worker left, the same bits after a restart.

    python -m tests.campaigns.signals [--trials 400] [--seed 0] [--json FILE]

Runs of SFT, DPO and PPO get SIGINT, SIGTERM, SIGHUP or SIGUSR1, once or twice, a random moment after a phase has begun:
the import of PyTorch (a new process; everything else is in forked children), reading of data, tokenising in worker
processes, self-test, proof of the masks, reference log-probabilities, gates, first rollouts, first evaluation, step,
evaluation, save, rotation, export, model card, and the end of the process. A trial holds if

- the process ends with 75, after the second signal also with 130, or with 0 where everything was done already;
- it prints no traceback, and no process of its session is left;
- the same command then ends with 0, and all files equal those of a run that was not stopped.
"""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from tests.campaigns.fault_worlds import FaultWorld, campaign_parser, finish, report_trial
from tests.campaigns.forked_command import (
    TRACEBACK,
    EndedCommand,
    ForkedCommand,
    start_command,
    start_process,
    wait_for_byte,
)
from tests.campaigns.system_calls import contents
from tunesmith.compose import preparation
from tunesmith.compose import train as train_module
from tunesmith.compose.methods import dpo, ppo, sft
from tunesmith.data.dataset import building, workers
from tunesmith.publish.card import writing
from tunesmith.train import loop
from tunesmith.train.rollout.generator import RolloutGenerator
from tunesmith.train.run import checkpoint
from tunesmith.train.run.callbacks import EvaluationCallback
from tunesmith.train.run.signals import STOP_SIGNALS

Place = tuple[Any, str, int]
"""Owner of a function, its name, and the call of it, from 1, that begins a phase."""

METHODS = {"sft": sft, "dpo": dpo, "ppo": ppo}
FORKED: Mapping[str, Place] = {
    "reading data": (preparation, "prepare_data", 1),
    "tokenising in workers": (workers, "ProcessPoolExecutor", 1),
    "self-test": (preparation.families, "check_positions", 1),
    "gates": (train_module, "_check_gates", 1),
    "first evaluation": (EvaluationCallback, "run", 1),
    "step": (loop, "accumulate_gradients", 2),
    "evaluation": (EvaluationCallback, "run", 2),
    "save": (checkpoint, "save", 2),
    "rotation": (checkpoint, "rotate", 3),
    "export": (train_module, "_export", 1),
    "card": (writing, "write_card_after_training", 1),
}
"""Phases of all methods."""
SPECIAL: Mapping[str, tuple[str, Place]] = {
    "reference log-probabilities": ("dpo", (dpo, "cached_references", 1)),
    "first rollouts": ("ppo", (RolloutGenerator, "__call__", 1)),
}
"""Phases of one method."""
PROCESS = ("import", "end")
"""Phases that need a new process."""
BEGIN = {"import": "loading PyTorch", "end": "card: written"}
"""What a process prints when such a phase begins."""
PHASES = (*FORKED, "mask proof", *SPECIAL)
PROCESS_SHARE = 16
"""Every 16th trial is a new process."""


@dataclass(frozen=True, slots=True)
class SignalTrial:
    """One run that is stopped.

    phase: in which the signals are sent.
    method: of training.
    numbers: the signals, one or two.
    waits: seconds before each of them.
    """

    phase: str
    method: str
    numbers: tuple[int, ...]
    waits: tuple[float, ...]


def trials(count: int, draw: random.Random) -> Iterator[SignalTrial]:
    """Every phase in turn."""
    for number in range(count):
        index, is_process = divmod(number, PROCESS_SHARE)
        if is_process == PROCESS_SHARE - 1:
            phase, longest = PROCESS[index % len(PROCESS)], 2.0
        else:
            phase = PHASES[(number - index) % len(PHASES)]
            longest = 2.0 if phase == "tokenising in workers" else 0.04
        method = SPECIAL[phase][0] if phase in SPECIAL else draw.choice(sorted(METHODS))
        numbers = tuple(int(draw.choice(STOP_SIGNALS)) for _ in range(draw.choice((1, 2))))
        waits = (draw.choice((0.0, draw.uniform(0, longest))), draw.choice((0.0, draw.uniform(0, 0.1))))
        yield SignalTrial(phase, method, numbers, waits[: len(numbers)])


def place_of(trial: SignalTrial) -> Place:
    if trial.phase == "mask proof":
        return METHODS[trial.method], "proof_of_run", 1
    return SPECIAL[trial.phase][1] if trial.phase in SPECIAL else FORKED[trial.phase]


def mark(place: Place, descriptor: int) -> Callable[[], None]:
    """What writes a byte into a pipe when a phase begins, in the child that calls it."""
    owner, name, wanted = place
    original, calls = getattr(owner, name), [0]

    def marked(*given: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] == wanted:
            os.write(descriptor, b".")
        return original(*given, **named)

    def prepare() -> None:
        for number in (signal.SIGINT, signal.SIGHUP):  # a shell may have started the campaign with them ignored
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        patch.object(owner, name, marked).start()
        if owner is workers:  # a few rows are enough for worker processes
            patch.object(workers, "CHUNKS_IN_THREADS", 1).start()
            patch.object(building, "ROWS_IN_CHUNK", 4).start()

    return prepare


def stop(world: FaultWorld, trial: SignalTrial) -> tuple[EndedCommand, list[int]]:
    """Start the run and send the signals; (how it has ended, the processes that it has left)."""
    words = world.words(*(["data.workers=2"] if trial.phase == "tokenising in workers" else []))
    if trial.phase in PROCESS:
        started = start_process(words, world.log)
        _wait_for_text(started, BEGIN[trial.phase])
    else:
        ours, theirs = os.pipe()
        started = start_command(words, world.log, mark(place_of(trial), theirs))
        os.close(theirs)
        wait_for_byte(ours, 300.0)
        os.close(ours)
    for number, pause in zip(trial.numbers, trial.waits, strict=True):
        time.sleep(pause)
        started.send(number)
    return started.wait(), started.others()


def _wait_for_text(started: ForkedCommand, text: str) -> None:
    deadline = time.monotonic() + 300.0
    while text not in started.log.read_text(errors="replace") and time.monotonic() < deadline:
        time.sleep(0.01)


def find_wrong(world: FaultWorld, trial: SignalTrial) -> tuple[int, list[str]]:
    """(exit code, what does not hold)."""
    world.expected()
    world.remove(cache=trial.phase in ("reading data", "tokenising in workers", "reference log-probabilities"))
    ended, left = stop(world, trial)
    allowed = (0, 75, *((130,) if len(trial.numbers) == 2 else ()))
    wrong = []
    if ended.code not in allowed or TRACEBACK in ended.text:
        wrong.append(f"ended with {ended.code}: {ended.last_line()}")
    if ended.code == 0 and contents(world.run) != world.expected():
        wrong.append("ended with 0 and is not done")
    if left:
        wrong.append(f"{len(left)} processes are left")
    again = world.train()
    if again.code != 0 or TRACEBACK in again.text:
        wrong.append(f"the next start ended with {again.code}: {again.last_line()}")
    elif changed := world.differences():
        wrong.append(f"after the next start: {changed}")
    return ended.code, wrong


def campaign(root: Path, count: int, seed: int) -> tuple[dict[str, object], list[dict[str, object]]]:
    """The figures, and the trials that do not hold."""
    worlds, failed = dict[str, FaultWorld](), list[dict[str, object]]()
    ends, held = Counter[str](), Counter[str]()
    for number, trial in enumerate(trials(count, random.Random(seed))):
        if trial.method not in worlds:
            worlds[trial.method] = FaultWorld(root / trial.method, trial.method, ["train.steps=4", "train.keep=2"])
        code, wrong = find_wrong(worlds[trial.method], trial)
        ends[str(code)] += 1
        held[trial.phase] += not wrong
        report_trial(number, count, str(trial), wrong)
        if wrong:
            failed.append({**asdict(trial), "code": code, "wrong": wrong})
    return {"exit codes": dict(ends), "held": dict(held)}, failed


def main() -> None:
    options = campaign_parser(__doc__, 400).parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as directory:
        figures, failed = campaign(Path(directory).resolve(), options.trials, options.seed)
    finish(
        "signals ended as documented, and the run continued to the same bits",
        figures,
        failed,
        options.trials,
        options.json,
    )


if __name__ == "__main__":
    main()
