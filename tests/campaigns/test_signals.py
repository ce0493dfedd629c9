"""One run is stopped in one phase; the campaign stops 400 in all phases."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pytest

from tests.campaigns.fault_worlds import FaultWorld
from tests.campaigns.signals import FORKED, PHASES, PROCESS, SPECIAL, SignalTrial, find_wrong, place_of, trials


def test_a_signal_while_data_are_read_ends_the_run_and_it_can_be_started_again(tmp_path: Path) -> None:
    world = FaultWorld(tmp_path / "world", "sft", ["train.steps=2", "data.validation=0", "train.evaluate_every=null"])
    trial = SignalTrial("reading data", "sft", (signal.SIGTERM,), (0.0,))
    assert find_wrong(world, trial) == (75, [])


def test_every_phase_is_a_function_of_the_program() -> None:
    for phase in PHASES:
        owner, name, call = place_of(SignalTrial(phase, SPECIAL[phase][0] if phase in SPECIAL else "sft", (), ()))
        assert callable(getattr(owner, name))
        assert call >= 1


@pytest.mark.parametrize("phase", [*FORKED, *SPECIAL, *PROCESS])
def test_the_trials_have_all_phases_with_one_and_two_signals(phase: str) -> None:
    found = [trial for trial in trials(400, random.Random(0)) if trial.phase == phase]
    assert {len(trial.numbers) for trial in found} == {1, 2}
