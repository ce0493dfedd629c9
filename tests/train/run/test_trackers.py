"""Trackers get a copy of the metrics, and a missing library is explained."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tunesmith.errors import RecipeError
from tunesmith.train.run.tracker_packages import PACKAGES
from tunesmith.train.run.trackers import TRACKERS, open_trackers


def test_no_tracker_is_the_default(tmp_path: Path) -> None:
    assert open_trackers((), tmp_path, {}) == []


def test_every_tracker_has_its_package() -> None:
    assert PACKAGES.keys() == TRACKERS.keys()


def test_an_unknown_tracker_is_an_error_that_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="there is no tracker 'comet'; known are tensorboard, wandb"):
        open_trackers(("comet",), tmp_path, {})


@pytest.mark.parametrize("name", sorted(TRACKERS))
def test_a_library_that_is_not_installed_is_named_with_the_way_out(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("tensorboard", "torch.utils.tensorboard", "wandb"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(RecipeError, match=f"tracker '{name}' needs the package '{name}', .*pip install {name}"):
        open_trackers((name,), tmp_path, {})
    assert not list(tmp_path.iterdir())


def test_tensorboard_gets_every_number_once_over_a_resume(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the optional tensorboard is not installed")
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    first = open_trackers(("tensorboard",), tmp_path, {"name": "x"})[0]
    for step in range(1, 6):
        first.log(step, {"loss": 1.0 / step})
    first.close()
    second = open_trackers(("tensorboard",), tmp_path, {"name": "x"}, start=3)[0]
    for step in range(4, 8):
        second.log(step, {"loss": 2.0 / step})
    second.close()
    found = reading.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in found.Scalars("loss")] == [1, 2, 3, 4, 5, 6, 7]
    assert [event.value for event in found.Scalars("loss")][3] == pytest.approx(0.5)
