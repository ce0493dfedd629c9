"""A text that names a model or data set: a path on disk, or a name that the hub may know."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunesmith.errors import StorageError
from tunesmith.files import looks_like_path, remove_unfinished, user_directory, write_file


@pytest.mark.parametrize("text", ["./model", "../model", ".", "/model", "~", "~/model", "runs/a/export", "a//b"])
def test_a_path_is_never_looked_up_on_the_hub(text: str) -> None:
    assert looks_like_path(text)


@pytest.mark.parametrize("text", ["pythia", "EleutherAI/pythia-70m", "owner/name.v2"])
def test_a_name_may_be_one_of_the_hub(text: str) -> None:
    assert not looks_like_path(text)


def test_the_directories_of_a_user_are_those_of_the_xdg_specification() -> None:
    everything = {"XDG_CACHE_HOME": "/c", "XDG_DATA_HOME": "/d", "XDG_STATE_HOME": "/s"}
    for kind, named, usual in (
        ("cache", "/c", ".cache"),
        ("data", "/d", ".local/share"),
        ("state", "/s", ".local/state"),
    ):
        assert user_directory(kind, everything) == Path(named) / "tunesmith"
        for ignored in ("", "relative", "~/x"):
            assert user_directory(kind, dict.fromkeys(everything, ignored)) == Path.home() / usual / "tunesmith"


def test_only_directories_that_were_about_to_be_replaced_are_removed(tmp_path: Path) -> None:
    for name in ("notes", "notes.replaced", "export", ".replaced-export", ".replaced-other", ".unfinished-x"):
        (tmp_path / name).mkdir()
    remove_unfinished(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"notes", "notes.replaced", "export", "other"}


def test_something_else_with_the_name_of_an_output_is_no_reason_to_free_disk_space(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "directory" / "inside").mkdir(parents=True)
    advice = "move away what has this name, or choose another name"
    for path, says in (
        (tmp_path / "file" / "report.json", f"{tmp_path}/file: cannot write: File exists; {advice}"),
        (tmp_path / "file" / "a" / "report.json", f"{tmp_path}/file/a: cannot write: Not a directory; {advice}"),
        (tmp_path / "directory", f"{tmp_path}/directory: cannot write: Is a directory; {advice}"),
    ):
        with pytest.raises(StorageError) as caught:
            write_file(path, "text")
        assert str(caught.value) == says
