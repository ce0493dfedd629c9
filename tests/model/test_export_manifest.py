"""The list of the files of an export: what it finds changed, and whose export it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunesmith.errors import DataError
from tunesmith.model.export_manifest import (
    check_weights_unchanged,
    find_changed_file,
    foreign_files,
    is_current,
    read_export_manifest,
    write_export_manifest,
)

FILES = ("adapter/adapter_config.json", "adapter/adapter_model.safetensors", "config.json", "model.safetensors")


@pytest.fixture
def export(tmp_path: Path) -> Path:
    for name in FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"this is {name}")
    write_export_manifest(tmp_path, "these weights")
    return tmp_path


def changed_file(export: Path) -> str | None:
    manifest = read_export_manifest(export)
    assert manifest is not None
    return find_changed_file(export, manifest)


def test_every_file_is_listed_and_an_export_is_that_of_its_origin(export: Path) -> None:
    manifest = read_export_manifest(export)
    assert manifest is not None
    assert sorted(manifest.files) == sorted(FILES)
    assert changed_file(export) is None
    assert is_current(export, "these weights")
    assert not is_current(export, "other weights")
    assert not is_current(export / "adapter", "these weights")


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_lost_or_changed_is_named(name: str, export: Path) -> None:
    path = export / name
    content = path.read_bytes()
    for changed, reason in ((content[:-1], "bytes, not"), (b"T" + content[1:], "SHA-256 differs"), (None, "missing")):
        path.unlink() if changed is None else path.write_bytes(changed)
        found = changed_file(export)
        assert found is not None
        assert name in found
        assert reason in found
        assert not is_current(export, "these weights")
        if name.endswith(".safetensors"):
            with pytest.raises(DataError, match="this export was damaged or changed"):
                check_weights_unchanged(export)
        else:
            check_weights_unchanged(export)  # text may be edited
        path.write_bytes(content)
    assert changed_file(export) is None


def test_what_the_export_did_not_write_is_the_users(export: Path) -> None:
    assert foreign_files(export) == []
    (export / "README.md").write_text("mine")
    (export / "gguf").mkdir()
    assert foreign_files(export) == ["README.md", "gguf"]
    (export / "adapter" / "README.md").write_text("mine")
    assert foreign_files(export) == ["README.md", "gguf", "adapter/README.md"]
