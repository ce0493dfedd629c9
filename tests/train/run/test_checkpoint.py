"""A checkpoint comes back bit for bit, the newest is found, and what cannot be read or written is explained."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from tests.train.canary import assert_is_step, groups, save_step
from tunesmith.errors import StorageError
from tunesmith.files import remove_unfinished
from tunesmith.train.run import checkpoint as module
from tunesmith.train.run import checkpoint_files
from tunesmith.train.run.checkpoint import newest, of_step, read, rotate, save
from tunesmith.train.tensors import TYPES, tied_names, write_tensors


def test_everything_comes_back_bit_for_bit(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tensors = {f"t.{name}": (torch.randn(3, 4) * 50).to(dtype) for dtype, name in TYPES.items()}
    tensors |= {"empty": torch.zeros(0, 3), "single": torch.tensor(1.5), "ünïcode/näme": torch.full((2,), float("nan"))}
    state = {"float": 0.1 + 0.2, "text": "grüße\u2028", "nested": {"list": [1, None, True]}}
    path = save(tmp_path, 12, {"model": tensors}, state)
    found = newest(tmp_path, pytest.fail)
    assert found is not None
    assert (found.path, found.step, found.state, found.groups) == (path, 12, state, ("model",))
    loaded = found.load("model")
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert loaded[name].shape == tensor.shape
        assert (
            loaded[name].numpy(force=True).tobytes() == tensor.numpy().tobytes()
            if tensor.dtype != torch.bfloat16
            else (torch.equal(loaded[name], tensor))
        )


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"a.exp_avg": None}, r"unexpected a\.exp_avg"),
        ({"b.step": torch.zeros(())}, r"missing b\.step"),
        ({"a.exp_avg": torch.zeros(3)}, r"\[2\] torch\.float32, not \[3\]"),
        ({"a.exp_avg": torch.zeros(2, dtype=torch.float64)}, "not .* torch.float64"),
        ({}, None),
    ],
)
def test_tensors_that_do_not_belong_to_the_model_are_refused_whole(
    changes: dict[str, torch.Tensor | None], match: str | None, tmp_path: Path
) -> None:
    save(tmp_path, 1, {"optimizer": {"a.step": torch.ones(()), "a.exp_avg": torch.ones(2)}}, {})
    found = newest(tmp_path, pytest.fail)
    assert found is not None
    changed = {"a.step": torch.zeros(()), "a.exp_avg": torch.zeros(2), **changes}
    target = {name: each for name, each in changed.items() if each is not None}
    if match is None:
        found.load_into("optimizer", target, "state")
        assert all(tensor.all() for tensor in target.values())
        return
    with pytest.raises(StorageError, match=match):
        found.load_into("optimizer", target, "state")
    assert all(not tensor.any() for tensor in target.values()), "a refused state must not be half loaded"


def test_a_file_holds_nothing_but_what_safetensors_defines(tmp_path: Path) -> None:
    tensors = {"flag": torch.ones(3, dtype=torch.bool), "wide": torch.ones(5, dtype=torch.float64), "x": torch.ones(2)}
    write_tensors(tmp_path / "a.safetensors", tensors)
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert set(file.keys()) == set(tensors)
        assert all(torch.equal(file.get_tensor(name), tensor) for name, tensor in tensors.items())


def test_every_tensor_begins_at_a_multiple_of_its_element_size(tmp_path: Path) -> None:
    tensors = {f"{index}": torch.ones(3, dtype=dtype) for index, dtype in enumerate(reversed(TYPES))}
    write_tensors(tmp_path / "a.safetensors", tensors)
    content = (tmp_path / "a.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    assert length % 8 == 0
    assert all(header[name]["data_offsets"][0] % tensor.element_size() == 0 for name, tensor in tensors.items())


def test_tied_tensors_are_stored_once_and_come_back_tied(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.randn(40, 30))
    tensors = {"embedding.weight": weight, "head.weight": weight, "other": torch.randn(2)}
    path = save(tmp_path, 1, {"model": tensors}, {})
    assert (path / "model.safetensors").stat().st_size < 2 * 40 * 30 * 4
    loaded = read(path).load("model")
    assert loaded["head.weight"].data_ptr() == loaded["embedding.weight"].data_ptr()
    assert torch.equal(loaded["head.weight"], weight)


def test_a_view_is_stored_with_its_own_numbers_only(tmp_path: Path) -> None:
    whole = torch.arange(10_000.0).reshape(100, 100)
    tensors = {
        "row": whole[3],
        "column": whole[:, 4],
        "corner": whole[:2, :2].T,
        "same memory, other shape": whole[3, :50],
    }
    assert not tied_names(tensors)
    path = save(tmp_path, 1, {"model": tensors}, {})
    assert (path / "model.safetensors").stat().st_size < 4000
    loaded = read(path).load("model")
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())


def test_the_newest_is_the_one_with_the_highest_step_in_its_manifest(tmp_path: Path) -> None:
    for step in (2, 10, 9):
        save_step(tmp_path, step)
    os.rename(tmp_path / "step-000002", tmp_path / "step-999999")  # a name does not matter
    os.utime(tmp_path / "step-000009", (2**33, 2**33))  # nor does a time
    assert_is_step(newest(tmp_path, pytest.fail), 10)


def test_a_step_is_found_by_its_number_and_only_if_it_is_whole(tmp_path: Path) -> None:
    for step in (5, 10, 15):
        save_step(tmp_path, step)
    found = of_step(tmp_path, 10, pytest.fail)
    assert found is not None
    assert_is_step(found, 10)
    assert of_step(tmp_path, 11, pytest.fail) is None
    damaged = tmp_path / "step-000005" / "model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"!")
    said: list[str] = []
    assert of_step(tmp_path, 5, said.append) is None
    assert len(said) == 1


def test_there_is_no_newest_where_nothing_was_saved(tmp_path: Path) -> None:
    assert newest(tmp_path / "absent", pytest.fail) is None
    assert newest(tmp_path, pytest.fail) is None


def test_saving_a_step_again_leaves_the_older_directory_alone(tmp_path: Path) -> None:
    first = save_step(tmp_path, 5)
    before = {item.name: item.read_bytes() for item in first.iterdir()}
    second = save(tmp_path, 5, groups(5), {"step": 5, "again": True})
    assert second.name == "step-000005-2"
    assert {item.name: item.read_bytes() for item in first.iterdir()} == before
    found = newest(tmp_path, pytest.fail)
    assert found is not None
    assert found.state.get("again")
    (tmp_path / "step-000006").mkdir()  # a leftover that is no checkpoint must not be filled either
    assert save_step(tmp_path, 6).name == "step-000006-2"


def test_a_checkpoint_of_a_newer_version_is_refused_and_left_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FORMAT", 3)
    save_step(tmp_path, 3)
    monkeypatch.undo()
    for ask in (lambda: newest(tmp_path, pytest.fail), lambda: rotate(tmp_path, 1, (), pytest.fail)):
        with pytest.raises(StorageError, match="format 3, this version reads formats 1 and 2"):
            ask()
    assert (tmp_path / "step-000003").is_dir()


def test_a_disk_that_cannot_read_a_file_counts_as_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in (1, 2):
        save_step(tmp_path, step)
    honest = checkpoint_files.sha256

    def broken(path: Path) -> str:
        if path.name == "model.safetensors" and "2" in path.parent.name:
            raise OSError(5, "Input/output error", str(path))
        return honest(path)

    monkeypatch.setattr(checkpoint_files, "sha256", broken)
    said: list[str] = []
    assert_is_step(newest(tmp_path, said.append), 1)
    assert "model.safetensors cannot be read (Input/output error)" in said[0]


def test_a_missing_permission_is_an_error_and_nothing_is_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_step(tmp_path, 1)

    def forbidden(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(checkpoint_files, "sha256", forbidden)
    with pytest.raises(StorageError, match="Permission denied"):
        newest(tmp_path, pytest.fail)
    assert (tmp_path / "step-000001").is_dir()


def test_an_unknown_group_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no tensors 'reward' in this checkpoint, only model, optimizer"):
        read(save_step(tmp_path, 1)).load("reward")


def test_a_state_with_a_number_that_is_none_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        save(tmp_path, 1, groups(1), {"best": float("inf")})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("free", [100_000, 1 << 17])
def test_too_little_space_is_refused_before_anything_is_written(
    free: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the second number all but the tensors themselves would fit."""
    save_step(tmp_path, 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": free})())
    with pytest.raises(StorageError, match=rf"step 2: 131,\d+ bytes needed, {free:,} available") as caught:
        save_step(tmp_path, 2)
    assert caught.value.exit_code == 74
    assert [item.name for item in tmp_path.iterdir()] == ["step-000001"]


def test_paths_with_spaces_unicode_and_a_changed_working_directory_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "mit Leerzeichen" / "übung 💾" / ("x" * 200)
    save_step(directory, 1)
    monkeypatch.chdir(directory)
    assert_is_step(newest(Path(), pytest.fail), 1)


def test_what_a_killed_run_left_behind_is_no_checkpoint(tmp_path: Path) -> None:
    path = save_step(tmp_path, 4)
    shutil.copytree(path, tmp_path / ".unfinished-abc")
    os.rename(path, tmp_path / ".unfinished-abc" / path.name)
    assert newest(tmp_path, pytest.fail) is None
    assert remove_unfinished(tmp_path) == 1
