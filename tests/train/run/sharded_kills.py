"""Kills one of several processes at a call that changes the file system while all of them save and rotate."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from tests.processes import run_cases
from tests.train.optim.sharded_cases import new_mesh
from tests.train.run.sharded_checkpoints import assert_same, fail, groups_of
from tests.train.run.test_checkpoint_crash import kill_at_call
from tunesmith.files import remove_unfinished, sha256
from tunesmith.train.run.checkpoint import newest, read, rotate, save
from tunesmith.world import ProcessGroup


def save_step(rank: int, size: int, directory: Path, *, root: Path, step: int) -> None:
    communicator = ProcessGroup(sharded=True)
    save(root, step, groups_of(new_mesh(size), step), {"step": step}, None, communicator)
    rotate(root, 2, (), fail, communicator)


def killed(rank: int, size: int, directory: Path, *, root: Path, step: int, victim: int, number: int) -> None:
    """Save a step; the victim is killed before or after its n-th call that changes the file system."""
    work = partial(save_step, rank, size, directory, root=root, step=step)
    (kill_at_call(number, work) if rank == victim else work)()


def assert_survives(root: Path, size: int, victim: int, number: int, scratch: Path) -> bool:
    """Kill a process, and check what is left; then save again and compare with what was never killed, to the byte.

    root: where ``save_first_steps`` has saved. scratch: an empty directory.
    Returns whether the victim was killed before it had done everything.
    """
    left = scratch / "left"
    shutil.copytree(root / "before", left)
    case = partial(killed, root=left, step=3, victim=victim, number=number)
    was_killed = bool(run_cases({"killed": case}, size, scratch / "first"))
    found = newest(left, fail)
    assert found is not None
    steps = sorted(each.step for each in map(read, left.glob("step-*")))
    assert steps in ([1, 2], [1, 2, 3], [2, 3]), (victim, number, steps)
    assert_same({group: found.load(group) for group in found.groups}, groups_of(None, found.step))
    remove_unfinished(left)
    assert not run_cases({"again": partial(save_step, root=left, step=4)}, size, scratch / "second")
    assert digests(left / "step-000004") == digests(root / "never" / "step-000004"), (victim, number)
    return was_killed


def digests(directory: Path) -> dict[str, str]:
    return {each.name: sha256(each) for each in directory.iterdir()}


def save_first_steps(root: Path, size: int) -> None:
    """Save the steps 1 and 2, which are there before a kill, and step 4, for comparison."""
    cases = {f"step {step}": partial(save_step, root=root / "before", step=step) for step in (1, 2)}
    assert not run_cases(cases | {"never": partial(save_step, root=root / "never", step=4)}, size, root / "processes")
