"""A checkpoint is whole or not there; what is damaged is noticed, set aside and never trained from."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from tunesmith.errors import StorageError
from tunesmith.files import remove_unfinished
from tunesmith.train import checkpoint as module
from tunesmith.train.checkpoint import Checkpoint, newest, read, rotate, save
from tunesmith.train.tensors import TYPES, ties, write_tensors


def groups(step: int) -> dict[str, dict[str, Tensor]]:
    """Canary weights: every number is the step, so a mixture of two steps cannot hide."""
    model = {"a.weight": torch.full((7, 5), float(step)), "b.bias": torch.full((3,), float(step))}
    return {"model": model, "optimizer": {"a.weight.step": torch.tensor(float(step))}}


def save_step(directory: Path, step: int) -> Path:
    return save(directory, step, groups(step), {"step": step, "offset": 100 * step}, {"recipe": "abc"})


def assert_is_step(found: Checkpoint | None, step: int) -> None:
    assert found is not None
    assert found.step == found.state["step"] == step
    for group in ("model", "optimizer"):
        assert all(bool((tensor == step).all()) for tensor in found.load(group).values())


def silent(_: str) -> None:
    return None


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
    assert not ties(tensors)
    path = save(tmp_path, 1, {"model": tensors}, {})
    assert (path / "model.safetensors").stat().st_size < 4000
    loaded = read(path).load("model")
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())


def test_the_newest_is_the_one_with_the_highest_step_in_its_manifest(tmp_path: Path) -> None:
    for step in (2, 10, 9):
        save_step(tmp_path, step)
    os.rename(tmp_path / "step-000002", tmp_path / "step-999999")  # a name says nothing
    os.utime(tmp_path / "step-000009", (2**33, 2**33))  # nor does a time
    assert_is_step(newest(tmp_path, pytest.fail), 10)


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


def test_a_flipped_bit_in_any_byte_of_manifest_state_and_header_is_noticed(tmp_path: Path) -> None:
    path = save_step(tmp_path, 1)
    for name in ("MANIFEST.json", "state.json", "optimizer.safetensors"):
        content = (path / name).read_bytes()
        for place in range(len(content)):
            changed = bytearray(content)
            changed[place] ^= 1 << (place % 8)
            (path / name).write_bytes(changed)
            with pytest.raises(StorageError):
                read(path)
        (path / name).write_bytes(content)
    read(path)


def test_random_damage_to_any_file_is_noticed(tmp_path: Path) -> None:
    path = save_step(tmp_path, 1)
    choose = random.Random(0)
    for name in sorted(item.name for item in path.iterdir()):
        content = (path / name).read_bytes()
        for _ in range(12):
            cut = choose.randrange(len(content))
            other = choose.randrange(len(content))
            swapped = bytearray(content)
            swapped[cut], swapped[other] = swapped[other], swapped[cut]
            for changed in (content[:cut], content[:cut] + bytes(len(content) - cut), content + b"\0", bytes(swapped)):
                if changed == content:
                    continue
                (path / name).write_bytes(changed)
                with pytest.raises(StorageError):
                    read(path)
        (path / name).write_bytes(content)
    read(path)


def flip_a_number(path: Path) -> None:
    content = bytearray((path / "model.safetensors").read_bytes())
    content[-3] ^= 4
    (path / "model.safetensors").write_bytes(content)


def empty(path: Path) -> None:
    (path / "model.safetensors").write_bytes(b"")


def lose(path: Path) -> None:
    (path / "state.json").unlink()


def lose_manifest(path: Path) -> None:
    (path / "MANIFEST.json").unlink()


def add(path: Path) -> None:
    (path / "notes.txt").write_text("hello")


def add_hidden_directory(path: Path) -> None:
    (path / ".cache").mkdir()


def change_case(path: Path) -> None:
    (path / "state.json").rename(path / "State.json")


def swap(path: Path) -> None:
    (path / "model.safetensors").rename(path / "x")
    (path / "optimizer.safetensors").rename(path / "model.safetensors")
    (path / "x").rename(path / "optimizer.safetensors")


def link(path: Path) -> None:
    (path / "state.json").rename(path.parent / "elsewhere.json")
    (path / "state.json").symlink_to(path.parent / "elsewhere.json")


def dangling_link(path: Path) -> None:
    (path / "state.json").unlink()
    (path / "state.json").symlink_to(path / "nowhere")


def directory_for_file(path: Path) -> None:
    (path / "state.json").unlink()
    (path / "state.json").mkdir()


def mix_steps(path: Path) -> None:
    shutil.copy(path.parent / "step-000001" / "model.safetensors", path / "model.safetensors")


def link_whole(path: Path) -> None:
    path.rename(path.parent / "moved")
    path.symlink_to(path.parent / "moved")


def file_for_directory(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("not a directory")


def edit_step(path: Path) -> None:
    manifest = json.loads((path / "MANIFEST.json").read_text())
    manifest["step"] = 70
    (path / "MANIFEST.json").write_text(json.dumps(manifest, indent=2) + "\n")


FAULTS: list[tuple[Callable[[Path], None], str]] = [
    (flip_a_number, "content of model.safetensors has changed"),
    (empty, "model.safetensors has 0 bytes, not"),
    (lose, "state.json is missing"),
    (lose_manifest, "MANIFEST.json is missing"),
    (add, "notes.txt does not belong to it"),
    (add_hidden_directory, ".cache does not belong to it"),
    (change_case, "State.json does not belong to it"),
    (swap, "safetensors has"),
    (link, "state.json is not a plain file"),
    (dangling_link, "state.json"),
    (directory_for_file, "state.json is not a plain file"),
    (mix_steps, "content of model.safetensors has changed"),
    (link_whole, "not a directory"),
    (file_for_directory, "not a directory"),
    (edit_step, "content of MANIFEST.json has changed"),
]


@pytest.mark.parametrize(("fault", "reason"), FAULTS, ids=[fault.__name__ for fault, _ in FAULTS])
def test_a_damaged_checkpoint_is_set_aside_loudly_and_the_older_one_used(
    tmp_path: Path, fault: Callable[[Path], None], reason: str
) -> None:
    for step in (1, 2):
        save_step(tmp_path, step)
    fault(tmp_path / "step-000002")
    with pytest.raises(StorageError, match="damaged"):
        read(tmp_path / "step-000002")
    said: list[str] = []
    assert_is_step(newest(tmp_path, said.append), 1)
    assert len(said) == 1
    assert reason in said[0]
    assert said[0].endswith(f"it is now {tmp_path / 'damaged-step-000002'}")
    assert os.path.lexists(tmp_path / "damaged-step-000002"), "it is kept for whoever wants to look"
    assert not os.path.lexists(tmp_path / "step-000002")
    assert_is_step(newest(tmp_path, pytest.fail), 1)


def test_when_all_are_damaged_there_is_none_and_each_is_reported(tmp_path: Path) -> None:
    said: list[str] = []
    for _ in range(2):
        for step in (1, 2, 3):
            flip_a_number(save_step(tmp_path, step))
        assert newest(tmp_path, said.append) is None
    assert len(said) == 6
    assert len(list(tmp_path.glob("damaged-step-*"))) == 6


def test_a_checkpoint_of_a_newer_version_is_refused_and_left_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FORMAT", 2)
    save_step(tmp_path, 3)
    monkeypatch.undo()
    for ask in (lambda: newest(tmp_path, pytest.fail), lambda: rotate(tmp_path, 1, (), pytest.fail)):
        with pytest.raises(StorageError, match="format 2, this version reads format 1"):
            ask()
    assert (tmp_path / "step-000003").is_dir()


def test_a_disk_that_cannot_read_a_file_counts_as_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in (1, 2):
        save_step(tmp_path, step)
    honest = module.sha256

    def broken(path: Path) -> str:
        if path.name == "model.safetensors" and "2" in path.parent.name:
            raise OSError(5, "Input/output error", str(path))
        return honest(path)

    monkeypatch.setattr(module, "sha256", broken)
    said: list[str] = []
    assert_is_step(newest(tmp_path, said.append), 1)
    assert "model.safetensors cannot be read (Input/output error)" in said[0]


def test_a_missing_permission_is_an_error_and_no_reason_to_set_anything_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_step(tmp_path, 1)

    def forbidden(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(module, "sha256", forbidden)
    with pytest.raises(StorageError, match="Permission denied"):
        newest(tmp_path, pytest.fail)
    assert (tmp_path / "step-000001").is_dir()


def test_a_manifest_in_any_other_form_does_not_pass(tmp_path: Path) -> None:
    path = save_step(tmp_path, 1) / "MANIFEST.json"
    content = path.read_text()
    for changed in (content + "\n", content.replace("\n", ""), content.replace("{", '{"step": 9,', 1), content[1:], ""):
        path.write_text(changed)
        with pytest.raises(StorageError, match=r"MANIFEST\.json"):
            read(path.parent)


def test_a_manifest_of_another_step_does_not_pass(tmp_path: Path) -> None:
    for step in (1, 2):
        save_step(tmp_path, step)
    shutil.copy(tmp_path / "step-000001" / "MANIFEST.json", tmp_path / "step-000002" / "MANIFEST.json")
    with pytest.raises(StorageError, match="has changed"):
        read(tmp_path / "step-000002")
    assert_is_step(newest(tmp_path, silent), 1)


def test_an_unknown_group_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no tensors 'reward' in this checkpoint, only model, optimizer"):
        read(save_step(tmp_path, 1)).load("reward")


def test_a_state_with_a_number_that_is_none_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        save(tmp_path, 1, groups(1), {"best": float("inf")})
    assert not list(tmp_path.iterdir())


def test_too_little_room_is_refused_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_step(tmp_path, 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 100_000})())
    with pytest.raises(StorageError, match=r"step 2: 131,\d+ bytes needed, 100,000 available") as caught:
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
