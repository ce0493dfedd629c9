"""Rollouts are read from disk bit for bit, or refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.train.small_rollouts import actor_critic, generator
from tunesmith.data.dataset.plan import PlannedStep
from tunesmith.errors import StorageError
from tunesmith.files import fingerprint
from tunesmith.train.rollout.files import (
    INDEX,
    TENSORS,
    delete_rollouts,
    iteration_directory,
    load_rollouts,
    save_rollouts,
)
from tunesmith.train.rollout.rollouts import Rollouts


@pytest.fixture(scope="module")
def rollouts() -> Rollouts:
    return generator(actor_critic())(12, PlannedStep(0, 0, (4, 1, 4), (0, 0, 1)), 0.1)


def test_what_was_saved_is_loaded_to_the_bit(rollouts: Rollouts, tmp_path: Path) -> None:
    save_rollouts(tmp_path, rollouts, str)
    save_rollouts(tmp_path, rollouts, str)
    found = load_rollouts(tmp_path, 12)
    assert [path.name for path in tmp_path.iterdir()] == ["iteration-000012"]
    assert (found.answered, found.coefficient, found.next_coefficient, found.metrics) == (
        rollouts.answered,
        rollouts.coefficient,
        rollouts.next_coefficient,
        rollouts.metrics,
    )
    assert found.columns.keys() == rollouts.columns.keys()
    assert all(np.array_equal(found.columns[name], rollouts.columns[name]) for name in found.columns)
    assert np.array_equal(found.rewards, rollouts.rewards)


def _flipped(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def _other_number(path: Path) -> None:
    index = json.loads((path / INDEX).read_text())
    del index["seal"]
    index["iteration"] = 13
    (path / INDEX).write_text(json.dumps({**index, "seal": fingerprint(index)}))


def _another_sealed_file(path: Path) -> None:
    content = {"files": {"a": 1}}
    (path / INDEX).write_text(json.dumps({**content, "seal": fingerprint(content)}))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a bit of the last number": lambda path: _flipped(path / TENSORS, -1),
    "a bit of the header": lambda path: _flipped(path / TENSORS, 30),
    "tensors cut": lambda path: (path / TENSORS).write_bytes((path / TENSORS).read_bytes()[:-4]),
    "no tensors": lambda path: (path / TENSORS).unlink(),
    "no index": lambda path: (path / INDEX).unlink(),
    "an empty index": lambda path: (path / INDEX).write_text(""),
    "an index that is a list": lambda path: (path / INDEX).write_text("[]"),
    "a changed coefficient": lambda path: (path / INDEX).write_text((path / INDEX).read_text().replace("0.1", "0.2")),
    "the index of another iteration": _other_number,
    "another sealed file": _another_sealed_file,
    "nothing at all": lambda path: [each.unlink() for each in path.iterdir()],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found_and_the_error_advises(damage: str, rollouts: Rollouts, tmp_path: Path) -> None:
    save_rollouts(tmp_path, rollouts, str)
    DAMAGE[damage](iteration_directory(tmp_path, 12))
    with pytest.raises(
        StorageError, match=r"iteration-000012: the rollouts that the next step needs are damaged.*; restore it"
    ):
        load_rollouts(tmp_path, 12)


def test_only_what_is_not_needed_goes(rollouts: Rollouts, tmp_path: Path) -> None:
    for number in range(6):
        iteration_directory(tmp_path, number).mkdir()
    (tmp_path / "notes").mkdir()
    delete_rollouts(tmp_path, {1, 4})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["iteration-000001", "iteration-000004", "notes"]
