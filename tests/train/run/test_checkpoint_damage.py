"""A damaged checkpoint is found, renamed and never trained from, whatever the damage."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.train.canary import assert_is_step, save_step
from tunesmith.errors import StorageError
from tunesmith.train.run.checkpoint import newest, read, save


def silent(_: str) -> None:
    return None


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
def test_a_damaged_checkpoint_is_renamed_with_a_warning_and_the_older_one_used(
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
    assert said[0].endswith(f"it was renamed to {tmp_path / 'damaged-step-000002'}")
    assert os.path.lexists(tmp_path / "damaged-step-000002"), "it is kept for inspection"
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


def test_a_state_of_which_the_disk_lost_a_half_is_damage_and_the_older_checkpoint_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk says "written" and keeps a half, so that reading back gives the half, too."""
    save(tmp_path, 1, {"model": {"w": torch.ones(3)}}, {"offset": 1})
    write = Path.write_bytes

    def lose(self: Path, data: Any) -> int:
        return write(self, data[: len(data) // 2] if self.name == "state.json" else data)

    monkeypatch.setattr(Path, "write_bytes", lose)
    save(tmp_path, 2, {"model": {"w": torch.ones(3)}}, {"offset": 22})
    notices: list[str] = []
    found = newest(tmp_path, notices.append)
    assert found is not None
    assert found.step == 1
    assert "step-000002 is damaged" in notices[0]
