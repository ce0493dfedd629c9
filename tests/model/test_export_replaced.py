"""An export that replaces another: one of them is complete at every moment, and files of the user stay."""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError
from transformers import PreTrainedModel

from tests.model.trees import SIZES
from tests.text.small_tokenizers import byte_level, write_tokenizer
from tunesmith import files
from tunesmith.errors import DataError, StorageError
from tunesmith.files import fingerprint, new_directory, remove_unfinished
from tunesmith.model.export import ExportInfo, export
from tunesmith.model.export_manifest import find_changed_file, read_export_manifest
from tunesmith.model.load import load_model, new_model
from tunesmith.text.formats.registry import build_format
from tunesmith.text.tokenizer.tokenizer import Tokenizer

EVENTS = ("open", "os.rename", "os.mkdir", "os.link", "os.remove", "os.rmdir", "os.chmod", "shutil.rmtree")
USERS = {"README.md": "mine", "gguf/model.gguf": "converted", "notes": "x"}


@pytest.fixture(scope="module")
def write(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path, int], Any]:
    """write(directory, steps): the export of a run; ``steps`` makes its content another one."""
    root = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(root, byte_level(), bos="<|endoftext|>", eos="<|endoftext|>", unk="<|endoftext|>")
    format = build_format("dolly")
    tokenizer = Tokenizer.load(str(root), format.controls)
    model = new_model({"architecture": "llama", **SIZES["llama"]}, 448, 0)

    def write(directory: Path, steps: int) -> Any:
        info = ExportInfo("dolly", {}, 200, {}, "new", "small", steps)
        return export(directory, model, tokenizer, format, info, origin=str(steps))

    return write


@pytest.fixture
def exported(tmp_path: Path, write: Callable[[Path, int], Any]) -> Path:
    directory = tmp_path / "export"
    write(directory, 1)
    for name, text in USERS.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(text)
    return directory


def assert_complete(directory: Path) -> str:
    """The directory holds one export and the files of the user; returns which export."""
    manifest = read_export_manifest(directory)
    assert manifest is not None
    assert find_changed_file(directory, manifest) is None
    assert {name: (directory / name).read_text() for name in USERS} == USERS
    return manifest.origin


def run_killed(action: Callable[[], object], at: int) -> bool:
    """Run in a child that is killed at its ``at``-th call of the file system; returns whether it came to its end."""
    child = os.fork()
    if child == 0:
        calls = itertools.count(1)

        def count(event: str, details: Any) -> None:
            reads = event == "open" and not details[2] & (os.O_WRONLY | os.O_RDWR)
            if event in EVENTS and not reads and next(calls) == at:
                os._exit(1)

        try:
            sys.addaudithook(count)
            action()
            os._exit(0)
        finally:
            os._exit(2)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 1)
    return code == 0


def test_a_kill_at_any_call_leaves_a_complete_export_and_the_users_files(
    exported: Path, write: Callable[[Path, int], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # a killed process loses nothing that it wrote
    before, kills = "1", 0
    for at in itertools.count(1):
        ended = run_killed(lambda at=at: write(exported, 1 + at), at)  # type: ignore[misc]
        found = assert_complete(exported)
        assert found in (before, str(1 + at))
        before = found
        if ended:
            break
        kills += 1
    assert kills > 30
    remove_unfinished(exported.parent)
    assert assert_complete(exported) == before
    assert [path.name for path in exported.parent.iterdir()] == ["export"]


def test_a_file_is_kept_in_a_directory_that_the_new_export_has_or_lacks(tmp_path: Path) -> None:
    path = tmp_path / "export"
    for inner in ("adapter/one", "two"):
        (path / "adapter").mkdir(parents=True, exist_ok=True)
        (path / "adapter" / "README.md").write_text("mine")
        with new_directory(path, kept=["adapter/README.md"]) as temporary:
            (temporary / inner).parent.mkdir(exist_ok=True)
            (temporary / inner).write_text("new")
        found = sorted(item.relative_to(path).as_posix() for item in path.rglob("*") if item.is_file())
        assert found == sorted(["adapter/README.md", inner])
        assert (path / "adapter" / "README.md").read_text() == "mine"


def test_a_kill_between_two_renames_is_made_good_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On systems that cannot exchange two names at once."""
    monkeypatch.setattr(files, "_exchange_at_once", lambda one, other: False)
    path, kills = tmp_path / "export", 0

    def write(content: str) -> None:
        with new_directory(path, kept=["README.md"]) as temporary:
            (temporary / "one").write_text(content)
            (temporary / "two").write_text(content)

    write("0")
    (path / "README.md").write_text("mine")
    before = "0"
    for at in itertools.count(1):
        ended = run_killed(lambda at=at: write(str(at)), at)  # type: ignore[misc]
        remove_unfinished(tmp_path)
        assert [item.name for item in tmp_path.iterdir()] == ["export"]
        found = [(path / name).read_text() for name in ("one", "two", "README.md")]
        assert found in ([before, before, "mine"], [str(at), str(at), "mine"])
        before = found[0]
        if ended:
            break
        kills += 1
    assert kills > 8


@pytest.mark.parametrize("at_once", [True, False], ids=["exchange", "two renames"])
def test_an_error_at_any_call_leaves_a_complete_export_and_the_users_files(
    at_once: bool, exported: Path, write: Callable[[Path, int], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not at_once:
        monkeypatch.setattr(files, "_exchange_at_once", lambda one, other: False)
    for name, most in {"rename": 6, "fsync": 4, "link": 4, "mkdir": 3}.items():
        call = getattr(os, name)
        for at in range(1, most):
            calls = itertools.count(1)

            def fail(*given: Any, call: Any = call, at: int = at, calls: Any = calls, **keys: Any) -> Any:
                if next(calls) == at:
                    raise OSError(28, "No space left on device")
                return call(*given, **keys)

            with monkeypatch.context() as patch:
                patch.setattr(os, name, fail)
                with suppress(StorageError):  # exit code 74
                    write(exported, 2)
            remove_unfinished(exported.parent)
            assert_complete(exported)
            assert [path.name for path in exported.parent.iterdir()] == ["export"]


def test_files_of_the_user_are_said(exported: Path, write: Callable[[Path, int], Any]) -> None:
    assert write(exported, 2) == ["README.md", "gguf", "notes"]
    assert assert_complete(exported) == "2"


def test_a_disk_that_is_full_while_the_weights_are_written_is_a_storage_error(
    exported: Path, write: Callable[[Path, int], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", full)
    with pytest.raises(StorageError, match="No space left"):
        write(exported, 2)
    assert assert_complete(exported) == "1"


def test_a_list_that_names_files_elsewhere_is_refused(exported: Path) -> None:
    content = {"version": 1, "origin": "", "files": {"../README.safetensors": {"size": 1, "sha256": ""}}}
    (exported / "tunesmith-manifest.json").write_text(json.dumps({**content, "seal": fingerprint(content)}))
    with pytest.raises(DataError, match=r"this list .* was changed"):
        load_model(str(exported))


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_file_or_link_with_the_name_is_not_deleted(
    kind: str, tmp_path: Path, write: Callable[[Path, int], Any]
) -> None:
    path = tmp_path / "export"
    (tmp_path / "else").mkdir()
    if kind == "file":
        path.write_text("mine")
    else:
        path.symlink_to(tmp_path / "else")
    with pytest.raises(StorageError, match="is not replaced"):
        write(path, 1)
    assert path.is_symlink() or path.read_text() == "mine"


DAMAGES: dict[str, Callable[[Path], object]] = {
    "bit of the weights": lambda path: flip(path / "model.safetensors", -9),
    "cut": lambda path: os.truncate(path / "model.safetensors", (path / "model.safetensors").stat().st_size // 2),
    "list": lambda path: flip(path / "tunesmith-manifest.json", 40),
    "list of something else": lambda path: (path / "tunesmith-manifest.json").write_text('{"files": [1], "seal": ""}'),
}


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_export_is_not_loaded(damage: str, exported: Path) -> None:
    load_model(str(exported))
    DAMAGES[damage](exported)
    with pytest.raises(
        DataError, match=r"remove tunesmith-manifest\.json if the change is meant|not valid JSON"
    ) as error:
        load_model(str(exported))
    assert "\n" not in str(error.value)


def test_a_change_that_is_meant_is_loaded(exported: Path) -> None:
    flip(exported / "model.safetensors", -9)
    (exported / "tunesmith-manifest.json").unlink()
    load_model(str(exported))


def test_text_of_an_export_may_be_edited(exported: Path) -> None:
    (exported / "tunesmith.json").unlink()
    (exported / "generation_config.json").write_text("{}")
    load_model(str(exported))
