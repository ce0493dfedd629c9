"""Killed, refused by the disk or rotated at any moment: an older whole checkpoint always remains."""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tunesmith.errors import StorageError
from tunesmith.files import remove_unfinished
from tunesmith.train.run.checkpoint import newest, read, rotate, save

SIZE = 20_000
FORK = multiprocessing.get_context("fork")


def save_step(directory: Path, step: int) -> Path:
    groups = {
        "model": {"w": torch.full((SIZE,), float(step))},
        "optimizer": {"m": torch.full((SIZE,), float(step)), "step": torch.tensor(float(step))},
    }
    return save(directory, step, groups, {"step": step})


def silent(_: str) -> None:
    return None


def valid_steps(directory: Path) -> list[int]:
    """The steps under a checkpoint's name, each proven whole and of one step; a damaged one raises."""
    found = [read(path) for path in directory.glob("step-*")]
    for each in found:
        numbers = torch.cat([each.load("model")["w"], each.load("optimizer")["m"]])
        assert bool((numbers == each.step).all()), "a mixture of two steps"
        assert each.state["step"] == each.step
    return sorted(each.step for each in found)


def exit_code(work: Callable[[], None]) -> int | None:
    """Run ``work`` in a forked process; its exit code, negative for a signal."""
    process = FORK.Process(target=work)
    process.start()
    process.join()
    return process.exitcode


def kill_at_call(number: int, work: Callable[[], None]) -> Callable[[], None]:
    """``work``, but the process is killed before or after the n-th call that changes the file system."""
    left = iter(range(number))

    def armed(original: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            if next(left, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
            result = original(*arguments, **named)
            if next(left, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    def run() -> None:
        for name in ("fsync", "rename", "replace", "mkdir", "unlink", "rmdir", "open"):
            setattr(os, name, armed(getattr(os, name)))
        work()

    return run


@pytest.mark.exhaustive
def test_a_kill_at_any_call_of_save_and_rotate_leaves_whole_checkpoints(tmp_path: Path) -> None:
    killed = 0
    for step in (1, 2):
        save_step(tmp_path / "before", step)
    for number in range(400):
        directory = tmp_path / str(number)
        shutil.copytree(tmp_path / "before", directory)

        def work(directory: Path = directory) -> None:
            save_step(directory, 3)
            rotate(directory, 2, (), silent)

        code = exit_code(kill_at_call(number, work))
        steps = valid_steps(directory)
        remove_unfinished(directory)
        assert valid_steps(directory) == steps, "tidying up takes no checkpoint"
        if code == 0:
            assert steps == [2, 3]
            break
        killed += 1
        assert code == -signal.SIGKILL
        assert steps in ([1, 2], [1, 2, 3], [2, 3]), number
        found = newest(directory, pytest.fail)
        assert found is not None
        assert found.step >= 2
        shutil.rmtree(directory)
    assert killed > 30, "every call was tried"


@pytest.mark.parametrize("size", [0, 1, 50, 4096, 60_000, SIZE * 4 + 50])
def test_a_limit_on_file_size_leaves_the_older_checkpoint_and_no_rest(tmp_path: Path, size: int) -> None:
    save_step(tmp_path, 1)

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        with pytest.raises(StorageError, match="File too large") as caught:
            save_step(tmp_path, 2)
        os._exit(caught.value.exit_code)

    assert exit_code(work) == 74
    assert valid_steps(tmp_path) == [1]
    assert [item.name for item in tmp_path.iterdir()] == ["step-000001"], "what was begun is gone again"


TMPFS = """
import os, subprocess, sys
from pathlib import Path
import torch
from tunesmith.errors import StorageError
from tunesmith.train.run import checkpoint

torch.set_num_threads(1)
disk, options = Path(sys.argv[1]), sys.argv[2]
checkpoint_bytes = 3 * 40_000 * 4
results = []
for number in range(24):
    share = number * 3 * checkpoint_bytes // 24 + 4096
    limit = f"size={share}" if options == "size" else f"nr_inodes={number + 3}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", limit, "tmpfs", str(disk)], check=True)
    if number % 2:
        checkpoint.check_free_space = lambda *_: None  # the estimate was too kind
    done = 0
    for step in range(1, 6):
        tensors = {name: torch.full((40_000,), float(step)) for name in "abc"}
        try:
            checkpoint.save(disk / "c", step, {"model": tensors}, {"step": step})
        except StorageError:
            break
        done = step
    found = checkpoint.newest(disk / "c", results.append)
    assert (found.step if found else 0) == done, (limit, done)
    left = sorted(item.name for item in disk.glob("c/*"))
    assert left == [f"step-{step:06d}" for step in range(1, done + 1)], left
    results += [] if not found else [f"{name} is torn" for name, x in found.load("model").items() if (x != done).any()]
    del found
    print(limit, done)
    subprocess.run(["umount", "-l", str(disk)], check=True)
assert not results, results
"""


@pytest.mark.parametrize("exhausted", ["size", "inodes"])
def test_a_full_disk_leaves_the_older_checkpoints(tmp_path: Path, exhausted: str) -> None:
    command = ["unshare", "-m", sys.executable, "-c", textwrap.dedent(TMPFS), str(tmp_path), exhausted]
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("a private mount namespace is not permitted here")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    if "permission denied" in ran.stderr.lower():
        pytest.skip("mounting a file system is not permitted here")
    assert ran.returncode == 0, ran.stderr
    done = {int(line.split()[1]) for line in ran.stdout.splitlines()}
    assert 0 in done, "the smallest disk has no space for one"
    assert len(done) > 2, "the sizes differ in effect"


class Rotation(RuleBasedStateMachine):
    """Saving, damage, copies with other times and rotation in any order, against a model that knows what is whole."""

    @initialize()
    def begin(self) -> None:
        self.directory = Path(os.environ["PYTEST_ROTATION"]) / uuid.uuid4().hex
        self.directory.mkdir()
        self.whole: dict[Path, int] = {}
        self.damaged: set[int] = set()  # steps of which some attempt is damaged
        self.step = 0

    @rule(ahead=st.integers(-2, 3))
    def save(self, ahead: int) -> None:
        self.step = max(1, self.step + ahead)
        self.whole[save(self.directory, self.step, {"w": {"w": torch.full((4,), float(self.step))}}, {})] = self.step

    @precondition(lambda self: self.whole)
    @rule(choice=st.integers(0, 10**6), how=st.sampled_from(["bit", "cut", "manifest", "state", "extra"]))
    def damage(self, choice: int, how: str) -> None:
        path = sorted(self.whole)[choice % len(self.whole)]
        self.damaged.add(self.whole.pop(path))
        file = path / {"manifest": "MANIFEST.json", "state": "state.json"}.get(how, "w.safetensors")
        if how == "extra":
            (path / "extra").touch()
        elif how == "cut":
            file.write_bytes(file.read_bytes()[:-1])
        else:
            content = bytearray(file.read_bytes())
            content[choice % len(content)] ^= 1
            file.write_bytes(content)

    @precondition(lambda self: self.whole)
    @rule(choice=st.integers(0, 10**6), when=st.integers(0, 2**33))
    def change_time(self, choice: int, when: int) -> None:
        os.utime(sorted(self.whole)[choice % len(self.whole)], (when, when))

    @rule()
    def leave_a_rest(self) -> None:
        (self.directory / ".unfinished-x").mkdir(exist_ok=True)

    @rule(keep=st.integers(1, 4), pinned=st.sets(st.integers(1, 12), max_size=3))
    def rotate(self, keep: int, pinned: set[int]) -> None:
        before = dict(self.whole)
        deleted = rotate(self.directory, keep, pinned, silent)
        self.whole = {path: step for path, step in before.items() if path.is_dir()}
        gone = sorted(step for path, step in before.items() if not path.is_dir())
        assert set(gone) <= set(deleted)
        assert set(deleted) - set(gone) <= self.damaged, "apart from these only a damaged attempt is deleted"
        assert not pinned & set(gone), "a pinned checkpoint went"
        assert len(self.whole) >= min(len(before), min(keep, 2)), "too few whole ones are left"
        newest_first = sorted(before.values(), reverse=True)
        assert all(step <= newest_first[min(keep, 2) - 1] for step in gone), "a newer one went before an older one"
        under_name = [path for path in self.directory.glob("step-*") if self.whole.get(path) not in pinned]
        assert len(under_name) <= keep + sum(1 for path in under_name if path not in self.whole)

    @invariant()
    def the_newest_whole_one_is_found(self) -> None:
        if not hasattr(self, "directory"):
            return
        found = newest(self.directory, silent)
        assert (found.step if found else 0) == max(self.whole.values(), default=0)


@pytest.fixture
def rotation_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_ROTATION", str(tmp_path))


@pytest.mark.usefixtures("rotation_directory")
@pytest.mark.exhaustive
def test_no_history_of_saving_damage_and_rotation_loses_what_counts() -> None:
    Rotation.TestCase.settings = settings(max_examples=50, stateful_step_count=25, deadline=None)
    Rotation.TestCase().runTest()


def test_rotation_keeps_the_newest_and_the_pinned(tmp_path: Path) -> None:
    for step in (10, 20, 30, 40, 50):
        save_step(tmp_path, step)
    assert rotate(tmp_path, 2, {20}, pytest.fail) == [30, 10]
    assert valid_steps(tmp_path) == [20, 40, 50]
    assert rotate(tmp_path, 1, (), pytest.fail) == [40, 20]
    assert valid_steps(tmp_path) == [50]


def test_rotation_reads_back_before_it_deletes(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        path = save_step(tmp_path, step)
    content = bytearray((path / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (path / "model.safetensors").write_bytes(content)
    said: list[str] = []
    assert rotate(tmp_path, 2, (), said.append) == [1]
    assert valid_steps(tmp_path) == [2, 3]
    assert "step-000004 is damaged" in said[0]


def test_rotation_reads_back_the_second_newest_too(tmp_path: Path) -> None:
    paths = [save_step(tmp_path, step) for step in (1, 2, 3)]
    content = bytearray((paths[1] / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (paths[1] / "model.safetensors").write_bytes(content)
    assert rotate(tmp_path, 2, (), silent) == []
    assert valid_steps(tmp_path) == [1, 3]
