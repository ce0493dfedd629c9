"""A text that names a model or data set: a path on disk, or a name that the hub may know."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunesmith.files import looks_like_path, remove_unfinished


@pytest.mark.parametrize("text", ["./model", "../model", ".", "/model", "~", "~/model", "runs/a/export", "a//b"])
def test_a_path_is_never_looked_up_on_the_hub(text: str) -> None:
    assert looks_like_path(text)


@pytest.mark.parametrize("text", ["pythia", "EleutherAI/pythia-70m", "owner/name.v2"])
def test_a_name_may_be_one_of_the_hub(text: str) -> None:
    assert not looks_like_path(text)


def test_only_directories_that_were_about_to_be_replaced_are_removed(tmp_path: Path) -> None:
    for name in ("notes", "notes.replaced", "export", ".replaced-export", ".replaced-other", ".unfinished-x"):
        (tmp_path / name).mkdir()
    remove_unfinished(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"notes", "notes.replaced", "export", "other"}
