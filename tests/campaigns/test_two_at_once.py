"""Two processes start at once in one directory; the campaign starts up to eight, 100 times."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.campaigns.fault_worlds import FaultWorld
from tests.campaigns.two_at_once import SharedTrial, run_trial


@pytest.mark.parametrize("place", ["run", "cache"])
def test_two_trainings_do_not_disturb_each_other(place: str, tmp_path: Path) -> None:
    world = FaultWorld(tmp_path / "world", "sft", ["train.steps=1", "data.validation=0", "train.evaluate_every=null"])
    assert run_trial(world, SharedTrial("sft", 2, place, None, (0.0, 0.0), has_cache=False)) == []
