"""A flipped byte in any file of a run is found, or the file is listed as one without a digest, with the reason."""

from __future__ import annotations

import fcntl
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.runs import train_small_run
from tunesmith.apps.provenance.inventory import WRITTEN_WHILE_TRAINING
from tunesmith.apps.provenance.verify import open_inventory, run, verify_files
from tunesmith.errors import LockedError, MissingInputError, StoppedError, StorageError
from tunesmith.model.export_manifest import EXPORT_MANIFEST
from tunesmith.train.run.journal import SEAL
from tunesmith.train.run.lock import write_holder

World = Callable[[str], Path]


def verified(directory: Path) -> str:
    target = io.StringIO()
    run(directory, target)
    return target.getvalue()


def states(directory: Path) -> dict[str, str]:
    """Path of every file with a finding -> its state."""
    return {each.path: each.state for each in verify_files(open_inventory(directory))}


@pytest.fixture
def copied(request: pytest.FixtureRequest, finished: World, tmp_path: Path) -> Path:
    return shutil.copytree(finished(getattr(request, "param", "sft")) / "run", tmp_path / "run")


@pytest.mark.parametrize("copied", ["sft", "dpo", "ppo"], indirect=True)
def test_a_finished_run_is_intact(copied: Path) -> None:
    assert states(copied) == dict.fromkeys(WRITTEN_WHILE_TRAINING, "not covered")
    assert "that have a digest are as they were written" in verified(copied)


@pytest.mark.parametrize("copied", ["sft", "ppo"], indirect=True)
@pytest.mark.parametrize("place", [0, 0.5, 1])
def test_a_flipped_byte_of_every_file_is_found_or_the_file_is_not_covered(copied: Path, place: float) -> None:
    files = [path for path in sorted(copied.rglob("*")) if path.is_file() and path.stat().st_size]
    names = {str(path.relative_to(copied)) for path in files}
    assert {"recipe.yaml", "manifest.json", "metrics.jsonl", "export/model.safetensors"} <= names
    for path in files:
        content, name = path.read_bytes(), str(path.relative_to(copied))
        changed = bytearray(content)
        changed[round(place * (len(content) - 1))] ^= 0x2B  # a line break becomes "!", a space a VT
        path.write_bytes(changed)
        expected = "not covered" if name in WRITTEN_WHILE_TRAINING else "damaged"
        assert states(copied)[name] == expected, name
        path.write_bytes(content)
    assert "damaged" not in states(copied).values()


def test_a_change_of_white_space_in_a_list_of_digests_is_found(copied: Path) -> None:
    for name in ("manifest.json", "export/tunesmith-manifest.json", "checkpoints/step-000004/MANIFEST.json"):
        text = (copied / name).read_text()
        (copied / name).write_text(text.replace("\n  ", "\n\t ", 1))
        assert states(copied)[name] == "damaged"
        (copied / name).write_text(text)


def test_what_is_missing_or_extra_is_named(copied: Path) -> None:
    (copied / "export" / "README.md").write_text("mine")
    (copied / "notes.txt").write_text("mine")
    found = states(copied)
    assert found["export/README.md"] == found["notes.txt"] == "extra"
    assert "extra: notes.txt: no list of digests names it, as with all that was added after training" in verified(
        copied
    )
    (copied / "consumed.jsonl").unlink()
    (copied / "export" / "tokenizer.json").unlink()
    shutil.rmtree(copied / "checkpoints" / "step-000004")
    found = states(copied)
    for name in ("consumed.jsonl", "export/tokenizer.json", "checkpoints/step-000004"):
        assert found[name] == "missing"
    with pytest.raises(StorageError, match=r"3 of \d+ files are damaged or missing") as caught:
        verified(copied)
    assert caught.value.exit_code == 74
    shutil.rmtree(copied / "export")
    assert states(copied)["export"] == "missing"


def test_a_file_without_a_recorded_size_is_not_read_for_hours(copied: Path) -> None:
    with (copied / "recipe.yaml").open("r+b") as file:
        file.truncate(1 << 40)
    found = {each.path: each.reason for each in verify_files(open_inventory(copied))}
    assert "1,099,511,627,776 bytes" in found["recipe.yaml"]


def test_a_lost_list_does_not_hide_the_damage_of_its_files(copied: Path) -> None:
    (copied / "export" / "tunesmith-manifest.json").write_text("{}")
    (copied / "export" / "config.json").write_text("{}")
    found = states(copied)
    assert found["export/tunesmith-manifest.json"] == found["export/config.json"] == "damaged"
    assert "export/model.safetensors" not in found


def test_an_export_alone_can_be_verified(copied: Path) -> None:
    export = copied.rename(copied.with_name("moved")) / "export"
    assert verified(export).startswith(f"{export}: all 9 files")
    path = export / "generation_config.json"
    path.write_text(path.read_text() + " ")
    assert states(export) == {"generation_config.json": "damaged"}


def test_a_run_of_an_earlier_version_is_verified_as_far_as_it_has_digests(copied: Path) -> None:
    path = copied / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({key: manifest[key] for key in manifest if key not in ("starts", "results", "seal")}))
    found = states(copied)
    assert found["manifest.json"] == found["recipe.yaml"] == "not covered"
    assert "metrics.jsonl" not in found
    records = (copied / "metrics.jsonl").read_bytes()
    (copied / "metrics.jsonl").write_bytes(records.replace(b"loss", b"lass", 1))
    assert states(copied)["metrics.jsonl"] == "damaged"


def test_a_run_that_was_stopped_or_continued_is_intact(finished: World) -> None:
    root = finished("sft")
    with pytest.raises(StoppedError):
        train_small_run(root, "sft", "train.stop_after=3", name="twice")
    assert "damaged" not in states(root / "twice").values()
    train_small_run(root, "sft", name="twice")
    assert states(root / "twice") == dict.fromkeys(WRITTEN_WHILE_TRAINING, "not covered")


@pytest.mark.parametrize("copied", ["ppo"], indirect=True)
def test_a_list_of_digests_in_the_place_of_another_one_is_found(copied: Path) -> None:
    """Each has a valid digest of itself, but other keys."""
    lists = [path for path in sorted(copied.rglob("*.json")) if isinstance(read := _read(path), dict) and SEAL in read]
    assert {path.name for path in lists} >= {"manifest.json", EXPORT_MANIFEST, "iteration.json"}
    for path in lists:
        content = path.read_bytes()
        for other in lists:
            if other.name != path.name:
                path.write_bytes(other.read_bytes())
                assert states(copied)[str(path.relative_to(copied))] == "damaged", (path, other)
        path.write_bytes(content)
    assert "damaged" not in states(copied).values()


def _read(path: Path) -> object:
    return json.loads(path.read_bytes())


def test_token_trees_of_the_cache_are_verified(finished: World, tmp_path: Path) -> None:
    root = finished("dpo")
    (store,) = (root / "cache").glob("*/store")
    path = store / "ids.bin"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert states(root / "run")[str(path)] == "damaged"
    path.write_bytes(content)
    assert str(path) not in states(root / "run")
    cache = (root / "cache").rename(root / "moved")
    assert states(root / "run")[str(root / "cache")] == "not covered"
    cache.rename(root / "cache")


def test_a_run_that_trains_is_not_verified(copied: Path) -> None:
    with (copied / "lock").open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        write_holder(file.fileno())
        with pytest.raises(LockedError, match="its files change"):
            verified(copied)


def test_another_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="neither a run"):
        verified(tmp_path)
    (tmp_path / "recipe.yaml").write_text("a: 1")
    with pytest.raises(MissingInputError, match="no manifest"):
        verified(tmp_path)
