"""`tunesmith benchmark` before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunesmith.cli import benchmark
from tunesmith.errors import MissingInputError, UsageError


def test_without_the_harness_one_sentence_names_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "find_spec", lambda name: None)
    with pytest.raises(MissingInputError) as error:
        benchmark.benchmark(["model"], data="data")
    assert str(error.value).endswith("; pip install 'tunesmith[eval]'")


def test_without_data_nothing_is_downloaded_unasked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="--data hub downloads them"):
        benchmark.benchmark(["model"])
    assert list(tmp_path.iterdir()) == []
