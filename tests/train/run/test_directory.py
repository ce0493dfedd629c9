"""A run directory has one writer and one recipe, and refuses others with a clear message."""

from __future__ import annotations

import errno
import fcntl
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.train.run.opened_runs import MANIFEST, RECIPE, begin_run, files, open_run
from tunesmith.errors import LockedError, MissingInputError, RecipeError, StorageError
from tunesmith.train.run import directory
from tunesmith.train.run.directory import free_directory

FORK = multiprocessing.get_context("fork")


def test_a_new_run_has_its_recipe_and_its_manifest(tmp_path: Path) -> None:
    with open_run(tmp_path / "runs" / "a run") as run:
        assert not run.continued
        run.record(MANIFEST, pytest.fail)
        assert (run.path / "recipe.yaml").read_text() == RECIPE
        assert json.loads((run.path / "manifest.json").read_text()) == {**MANIFEST, "betas": [0.9, 0.95]}
        assert run.checkpoints == run.path / "checkpoints"


def test_the_same_recipe_continues_and_changes_nothing(tmp_path: Path) -> None:
    with open_run(tmp_path / "run") as run:
        run.record(MANIFEST, pytest.fail)
    before = files(tmp_path)
    with open_run(tmp_path / "run", RECIPE.replace("name: x\n", "# a comment\nname:   x\n")) as run:
        assert run.continued
        run.record(MANIFEST, pytest.fail)
    assert files(tmp_path) == before


def test_another_recipe_is_refused_with_the_keys_that_differ(tmp_path: Path) -> None:
    begin_run(tmp_path / "run")
    before = files(tmp_path)
    other = RECIPE.replace("epochs: 3", "epochs: 5").replace("a.jsonl", "b.jsonl").replace("name: x", "title: x")
    with pytest.raises(RecipeError) as caught:
        open_run(tmp_path / "run", other)
    text = str(caught.value)
    assert caught.value.exit_code == 78
    for line in ("train.epochs: 3 -> 5", 'data.sources.0.path: "a.jsonl" -> "b.jsonl"', 'name: "x" -> (absent)'):
        assert line in text
    assert 'title: (absent) -> "x"' in text
    assert "log_every" not in text
    assert f"continue it with its own recipe, or append run.directory={tmp_path}/run-2 for a new run; what dif" in text
    assert files(tmp_path) == before
    begin_run(tmp_path / "run")  # the refused process has released the lock


def test_a_key_that_an_earlier_version_did_not_have_may_have_the_value_that_it_had_there(tmp_path: Path) -> None:
    begin_run(tmp_path / "run")
    newer = RECIPE.replace("epochs: 3", "epochs: 3\n  weights: float32")
    with pytest.raises(RecipeError, match=r"train.weights: \(absent\) -> \"float32\""):
        open_run(tmp_path / "run", newer)
    with pytest.raises(RecipeError, match=r'train.weights: "float32" -> "split"'):
        open_run(tmp_path / "run", newer.replace("float32", "split"), earlier={"train.weights": "float32"})
    with open_run(tmp_path / "run", newer, earlier={"train.weights": "float32"}) as run:
        run.record(MANIFEST, pytest.fail)
    assert (tmp_path / "run" / "recipe.yaml").read_text() == newer


def test_keys_that_may_differ_are_renewed_and_announced(tmp_path: Path) -> None:
    begin_run(tmp_path / "run")
    other, said = RECIPE.replace("log_every: 10", "log_every: 1"), list[str]()
    with pytest.raises(RecipeError):
        open_run(tmp_path / "run", other, may_differ=["train.log", "log_every"])
    begin_run(tmp_path / "run", other, may_differ=["train.log_every"], notice=said.append)
    assert said == ["changed since the last start of the run: train.log_every: 10 -> 1"]
    assert (tmp_path / "run" / "recipe.yaml").read_text() == other
    open_run(
        tmp_path / "run", RECIPE.replace("epochs: 3", "epochs: 4"), may_differ=["train"], notice=said.append
    ).close()


def test_other_data_are_refused_and_other_hardware_is_announced(tmp_path: Path) -> None:
    with open_run(tmp_path / "run") as run:
        run.record(MANIFEST, pytest.fail)
        with pytest.raises(RecipeError, match=r'data\.key: "abc" -> "def"'):
            run.record({**MANIFEST, "data": {"key": "def"}}, pytest.fail)
        said: list[str] = []
        run.record({**MANIFEST, "hardware": {"cores": 4}}, said.append)
        assert said == ["changed since the last start of the run: hardware.cores: 2 -> 4"]
        run.record({**MANIFEST, "hardware": {"cores": 4}}, pytest.fail)


def test_numbers_in_changes_are_written_as_in_a_recipe(tmp_path: Path) -> None:
    begin_run(tmp_path / "run", "train: {epochs: 5.0, learning_rate: 1.0e-05}")
    said = list[str]()
    changed = "train: {epochs: 3.0, learning_rate: 2.5e-05}"
    open_run(tmp_path / "run", changed, may_differ=["train"], notice=said.append).close()
    assert [line.partition("run: ")[2] for line in said] == [
        "train.epochs: 5 -> 3",
        "train.learning_rate: 1e-05 -> 2.5e-05",
    ]


def test_the_directory_of_a_new_run_has_the_first_number_that_is_not_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "a-2", "a-4", "b c"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    assert free_directory(tmp_path / "runs" / "a") == "run.directory=runs/a-3"
    assert free_directory(tmp_path / "runs" / "b c") == "'run.directory=runs/b c-2'"


def test_a_start_that_is_refused_before_writing_changes_nothing(tmp_path: Path) -> None:
    begin_run(tmp_path / "run")
    before = files(tmp_path)

    def refuse() -> None:
        raise RecipeError("too short")

    other = RECIPE.replace("epochs: 3", "epochs: 2")
    with open_run(tmp_path / "run", other, may_differ=["train"], notice=str) as run:
        assert run.previous["train"]["epochs"] == 3
        with pytest.raises(RecipeError, match="too short"):
            run.record(MANIFEST, pytest.fail, before_writing=refuse)
    assert files(tmp_path) == before


def test_a_damaged_recipe_or_manifest_is_an_error_with_its_path(tmp_path: Path) -> None:
    with open_run(tmp_path / "run") as run:
        run.record(MANIFEST, pytest.fail)
        for content in ("{", "[1]", "\udcff".encode("utf-8", "surrogateescape").decode("latin-1")):
            (run.path / "manifest.json").write_text(content)
            with pytest.raises(RecipeError, match=r"manifest.json: not readable"):
                run.record(MANIFEST, pytest.fail)
    for content in ("a: [", "[" * 50_000):
        (tmp_path / "run" / "recipe.yaml").write_text(content)
        with pytest.raises(RecipeError, match=r"recipe.yaml: not readable"):
            open_run(tmp_path / "run")


def test_a_lost_recipe_is_named_and_not_taken_for_other_files(tmp_path: Path) -> None:
    begin_run(tmp_path)
    (tmp_path / "recipe.yaml").unlink()
    with pytest.raises(StorageError, match=r"recipe\.yaml of this run is missing; restore it, or append run"):
        open_run(tmp_path)


def test_a_lost_manifest_is_noticed_where_there_is_something_to_continue(tmp_path: Path) -> None:
    begin_run(tmp_path)
    (tmp_path / "manifest.json").unlink()
    begin_run(tmp_path)  # as after a kill before it was written
    (tmp_path / "checkpoints" / "step-000001").mkdir()
    (tmp_path / "manifest.json").unlink()
    notices: list[str] = []
    begin_run(tmp_path, notice=notices.append)
    assert notices == [
        "manifest.json of this run is missing, so data, models and software are not compared with those of its start"
    ]
    assert (tmp_path / "manifest.json").is_file()


def test_a_directory_with_other_files_is_refused_and_not_changed(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(RecipeError, match=r"is no run \(it contains 'thesis.tex'\)"):
        open_run(tmp_path)
    assert files(tmp_path) == {"thesis.tex": b"precious"}


def test_resume_can_be_required_or_forbidden(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no run to continue"):
        open_run(tmp_path / "run", resume="always")
    assert not (tmp_path / "run").exists()
    begin_run(tmp_path / "run", resume="never")
    with pytest.raises(RecipeError, match="a run exists here already"):
        open_run(tmp_path / "run", resume="never")
    with open_run(tmp_path / "run", resume="always") as run:
        assert run.continued


def test_a_relative_path_survives_a_change_of_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with open_run(Path("run")) as run:
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        run.record(MANIFEST, pytest.fail)
    assert (tmp_path / "run" / "manifest.json").is_file()


def test_a_path_that_cannot_be_a_directory_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "run", tmp_path / ("x" * 300)):
        with pytest.raises(StorageError, match="cannot write"):
            open_run(path)


def test_a_second_process_gets_the_holder_of_the_lock_and_changes_nothing(tmp_path: Path) -> None:
    with open_run(tmp_path / "run"):
        before = files(tmp_path)
        (tmp_path / "run" / ".unfinished-saving").touch()

        def second() -> None:
            with pytest.raises(LockedError, match=rf"process {os.getppid()} on \S+ since 20") as caught:
                open_run(tmp_path / "run", RECIPE.replace("epochs: 3", "epochs: 4"))
            os._exit(caught.value.exit_code)

        process = FORK.Process(target=second)
        process.start()
        process.join()
        assert process.exitcode == 76
        assert (tmp_path / "run" / ".unfinished-saving").exists(), "only the holder of the lock removes leftovers"
        (tmp_path / "run" / ".unfinished-saving").unlink()
        assert files(tmp_path) == before
    open_run(tmp_path / "run").close()


def test_of_eight_that_start_at_once_exactly_one_wins(tmp_path: Path) -> None:
    for trial in range(5):
        path, begin, end = tmp_path / str(trial), FORK.Barrier(8), FORK.Barrier(8)

        def work(path: Path = path, begin: Any = begin, end: Any = end) -> None:
            begin.wait()
            try:
                open_run(path)
            except LockedError as error:
                end.wait()
                os._exit(error.exit_code)
            end.wait()  # nobody leaves before everybody has tried
            os._exit(0)

        processes = [FORK.Process(target=work) for _ in range(8)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        assert sorted(process.exitcode or 0 for process in processes) == [0] + [76] * 7


def kill_while_open(path: Path) -> int:
    """Open a run in another process and kill that; returns its number."""

    def work() -> None:
        open_run(path)
        time.sleep(60)

    process = FORK.Process(target=work)
    process.start()
    lock, deadline = path / "lock", time.monotonic() + 30
    while not (lock.is_file() and lock.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert process.pid is not None
    return process.pid


def test_the_lock_of_a_killed_run_is_taken_over_with_a_notice(tmp_path: Path) -> None:
    begin_run(tmp_path / "run")
    number = kill_while_open(tmp_path / "run")
    said: list[str] = []
    open_run(tmp_path / "run", notice=said.append).close()
    assert len(said) == 1
    assert f"the run was killed before: process {number} on " in said[0]
    open_run(tmp_path / "run").close()  # released in order: no notice


def test_the_lock_of_a_run_that_was_killed_before_it_began_is_no_run(tmp_path: Path) -> None:
    kill_while_open(tmp_path / "run")
    assert files(tmp_path / "run").keys() == {"lock"}
    with pytest.raises(MissingInputError, match="there is no run to continue"):
        open_run(tmp_path / "run", resume="always")
    with open_run(tmp_path / "run", resume="never") as run:
        assert not run.continued
    assert files(tmp_path / "run") == {}


def test_a_lock_that_is_removed_while_others_wait_for_it_has_one_holder(tmp_path: Path) -> None:
    """A process may open the lock file, another one may remove it, and a third one may make a new one."""

    def work() -> None:
        for _ in range(150):
            try:
                run = open_run(tmp_path / "run")
            except LockedError:
                continue
            (tmp_path / "holder").touch(exist_ok=False)  # fails if there is a second holder
            (tmp_path / "holder").unlink()
            run.close()

    processes = [FORK.Process(target=work) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4


def test_the_lock_of_a_removed_file_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, removed = directory._lock_file, list[Path]()

    def lock_file(path: Path, notice: Callable[[str], None]) -> int:
        descriptor = lock(path, notice)
        if not removed:  # as another process does after its run, between opening and locking
            removed.append(path)
            path.unlink()
        return descriptor

    monkeypatch.setattr(directory, "_lock_file", lock_file)
    with open_run(tmp_path):
        assert removed == [tmp_path / "lock"]
        with pytest.raises(LockedError):
            open_run(tmp_path)


@pytest.mark.parametrize("content", [b"{", b"[1]", b'{"pid": "x"}', b"\xff\xfe", b'{"pid": 1}'])
def test_a_lock_file_with_invalid_content_does_not_matter(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "lock").write_bytes(content)
    open_run(tmp_path).close()


def test_after_a_failure_before_the_record_another_recipe_can_start(tmp_path: Path) -> None:
    open_run(tmp_path / "run").close()
    assert files(tmp_path / "run") == {}
    begin_run(tmp_path / "run", RECIPE.replace("epochs: 3", "epochs: 4"))


def fail(number: int) -> Callable[..., Any]:
    """A call that the operating system refuses with an error number."""

    def call(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return call


@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS])
def test_a_disk_that_fails_when_the_lock_is_released_hides_no_other_error(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = open_run(tmp_path / "run")
    run.record(MANIFEST, pytest.fail)
    with monkeypatch.context() as broken:
        broken.setattr(os, "ftruncate", fail(number))
        with pytest.raises(ZeroDivisionError), run:
            raise ZeroDivisionError
    open_run(tmp_path / "run", notice=lambda _: None).close()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_named(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", fail(number))
    with pytest.raises(StorageError, match=r"lock: cannot lock: .*; choose a run\.directory on a file system"):
        open_run(tmp_path / "run")


def test_a_lock_that_is_a_link_is_refused_and_the_file_behind_it_kept(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("years of work")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "lock").symlink_to(tmp_path / "precious")
    with pytest.raises(StorageError, match="move away what has this name"):
        open_run(tmp_path / "run")
    assert (tmp_path / "precious").read_text() == "years of work"


@pytest.mark.parametrize("name", ["recipe.yaml", "manifest.json"])
def test_a_file_of_a_run_that_may_not_be_read_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin_run(tmp_path / "run")
    opened, refuse = Path.open, fail(errno.EACCES)

    def open_file(path: Path, *how: Any, **options: Any) -> Any:
        return refuse() if path.name == name else opened(path, *how, **options)

    monkeypatch.setattr(Path, "open", open_file)
    with pytest.raises(StorageError, match=rf"{name}: cannot read: Permission denied; check the disk"):
        begin_run(tmp_path / "run")
