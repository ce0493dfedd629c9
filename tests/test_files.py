"""A text that names a model or data set: a path on disk, or a name that the hub may know."""

from __future__ import annotations

import pytest

from tunesmith.files import looks_like_path


@pytest.mark.parametrize("text", ["./model", "../model", ".", "/model", "~", "~/model", "runs/a/export", "a//b"])
def test_a_path_is_never_looked_up_on_the_hub(text: str) -> None:
    assert looks_like_path(text)


@pytest.mark.parametrize("text", ["pythia", "EleutherAI/pythia-70m", "owner/name.v2"])
def test_a_name_may_be_one_of_the_hub(text: str) -> None:
    assert not looks_like_path(text)
