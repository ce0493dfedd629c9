"""Finding a store again: exactly when it is the right one, and never half of it."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import REPOSITORY
from tests.data.small_runs import RECORDS, arrays, content, left, run, write
from tests.text.small_tokenizers import prefixed, write_tokenizer
from tunesmith.data.dataset import building, cache_key
from tunesmith.data.dataset.prepare import prepare
from tunesmith.data.dataset.rendering import RenderSettings
from tunesmith.data.dataset.store import LAYOUT, StoreWriter
from tunesmith.data.readers.source_config import SourceConfig
from tunesmith.errors import StorageError


def test_validation_is_held_out_without_a_second_rendering(tokenizer: str, tmp_path: Path, made: list[str]) -> None:
    path = write(tmp_path / "a.jsonl", RECORDS)
    whole = run(path, tokenizer, tmp_path / "cache")
    parts = run(path, tokenizer, tmp_path / "cache", validation=10, seed=5)
    other = run(path, tokenizer, tmp_path / "cache", validation=0.5, seed=6)
    assert len(made) == 1
    assert parts.validation is not None
    assert other.validation is not None
    assert (len(parts.train), len(parts.validation)) == (50, 10)
    assert sorted(content(parts.train) + content(parts.validation)) == sorted(content(whole.train))
    assert set(map(bytes, parts.train.keys)).isdisjoint(map(bytes, parts.validation.keys))
    assert parts.report.validation is not None
    assert parts.report.validation.records == 10


def sources_of(tmp_path: Path) -> Path:
    return write(tmp_path / "a.jsonl", RECORDS)


CHANGES: dict[str, dict[str, Any]] = {
    "reader": {"reader": "alpaca", "fields": {"input": "context", "output": "response"}},
    "fields": {"fields": {"instruction": "response", "response": "instruction"}},
    "options": {"options": {"empty": "drop"}},
    "name": {"name": "other"},
    "format": {"format": "chatml"},
    "format options": {"format": "chatml", "options_of_format": True},
    "max_length": {"max_length": 201},
    "truncation": {"truncation": "right"},
    "truncation window": {"truncation": "window"},
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_decides_the_tokens_makes_another_store(
    change: str, tokenizer: str, tmp_path: Path, made: list[str]
) -> None:
    path = sources_of(tmp_path)
    given = dict(CHANGES[change])
    if given.pop("options_of_format", False):
        run(path, tokenizer, tmp_path / "cache", format="chatml")
        settings = RenderSettings(tokenizer, "oasst", 200)
        spec = SourceConfig("data", str(path), "dolly")
        for options in ((), (("context", "drop"),)):
            prepare(
                [spec], replace(settings, options=options), validation=0, seed=0, cache=tmp_path / "cache", workers=0
            )
        assert len(made) == 3
        return
    run(path, tokenizer, tmp_path / "cache")
    run(path, tokenizer, tmp_path / "cache", **given)
    assert len(made) == 2


def change_record(path: Path, tokenizer: Path) -> None:
    path.write_text(path.read_text().replace("It is 4.", "It is four."))


def add_record(path: Path, tokenizer: Path) -> None:
    path.write_text(path.read_text() + json.dumps(RECORDS[0]) + "\n")


def swap_records(path: Path, tokenizer: Path) -> None:
    first, second, *rest = path.read_text().splitlines()
    path.write_text("\n".join([second, first, *rest]))


def change_tokenizer(path: Path, tokenizer: Path) -> None:
    write_tokenizer(tokenizer, prefixed(), bos="<s>", eos="</s>", unk="<unk>")


@pytest.mark.parametrize("change", [change_record, add_record, swap_records, change_tokenizer])
def test_changed_content_makes_another_store(
    change: Callable[[Path, Path], None], tokenizer: str, tmp_path: Path, made: list[str]
) -> None:
    path, copied = sources_of(tmp_path), tmp_path / "tokenizer"
    shutil.copytree(tokenizer, copied)
    before = run(path, str(copied), tmp_path / "cache")
    change(path, copied)
    after = run(path, str(copied), tmp_path / "cache")
    assert len(made) == 2
    assert before.key != after.key


@pytest.mark.parametrize("changed", ["code", "library"])
def test_other_code_makes_another_store(
    changed: str, tokenizer: str, tmp_path: Path, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sources_of(tmp_path)
    run(path, tokenizer, tmp_path / "cache")
    if changed == "code":
        monkeypatch.setattr(cache_key, "loaded_code_digest", lambda: "another")
    else:
        monkeypatch.setattr("tokenizers.__version__", "99")
    run(path, tokenizer, tmp_path / "cache")
    assert len(made) == 2


def test_what_does_not_matter_finds_the_store(tokenizer: str, tmp_path: Path, made: list[str]) -> None:
    path = sources_of(tmp_path)
    first = run(path, tokenizer, tmp_path / "cache")
    moved = tmp_path / "elsewhere" / "b.jsonl"
    moved.parent.mkdir()
    path.rename(moved)
    copied = tmp_path / "tokenizer"
    shutil.copytree(tokenizer, copied)
    second = run(moved, str(copied), tmp_path / "cache", seed=9, validation=3, workers=2, progress=lambda *told: None)
    assert len(made) == 1
    assert first.key == second.key
    assert first.data == second.data


@pytest.mark.parametrize("name", [*(f"{name}.bin" for name in LAYOUT), "index.json"])
def test_a_damaged_store_is_made_again(name: str, tokenizer: str, tmp_path: Path, made: list[str]) -> None:
    path = sources_of(tmp_path)
    first = run(path, tokenizer, tmp_path / "cache")
    expected = arrays(first)
    file = first.directory / "store" / name
    file.write_bytes(file.read_bytes()[:-3] + b"xyz")
    second = run(path, tokenizer, tmp_path / "cache")
    assert len(made) == 2
    assert arrays(second) == expected
    run(path, tokenizer, tmp_path / "cache")
    assert len(made) == 2


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("a fault")])
@pytest.mark.parametrize("method", ["append", "finish"])
def test_a_failure_in_the_middle_leaves_nothing(
    method: str, error: BaseException, tokenizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sources_of(tmp_path)
    monkeypatch.setattr(building, "ROWS_IN_CHUNK", 20)
    original, calls = getattr(StoreWriter, method), []

    def fail(writer: StoreWriter, *given: Any) -> None:
        calls.append(method)
        if method == "finish" or len(calls) == 2:
            raise error
        original(writer, *given)

    with monkeypatch.context() as planted:
        planted.setattr(StoreWriter, method, fail)
        expected = StorageError if isinstance(error, OSError) else type(error)
        with pytest.raises(expected):
            run(path, tokenizer, tmp_path / "cache")
    assert left(tmp_path / "cache") == []
    assert len(run(path, tokenizer, tmp_path / "cache").train) == 60


SCRIPT = """
import os, signal, sys
from pathlib import Path
from tunesmith.data.dataset import building, prepare as module
from tunesmith.data.dataset.rendering import RenderSettings
from tunesmith.data.readers.source_config import SourceConfig
from tunesmith.data.dataset.store import StoreWriter

path, tokenizer, cache, mode = sys.argv[1:]
building.ROWS_IN_CHUNK = 20
if mode == "die":
    append, calls = StoreWriter.append, []
    def fatal(writer, chunk):
        append(writer, chunk)
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
    StoreWriter.append = fatal
original = module.build_store
def make(*given):
    print("made", flush=True)
    original(*given)
module.build_store = make
sources, settings = [SourceConfig("data", path, "dolly")], RenderSettings(tokenizer, "dolly", 200)
found = module.prepare(sources, settings, validation=0, seed=0, cache=Path(cache), workers=0)
print(len(found.train), found.train.tokens.sum())
"""


def start(path: Path, tokenizer: str, cache: Path, mode: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT, str(path), tokenizer, str(cache), mode]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)


def test_a_process_that_is_killed_leaves_no_store_and_its_remains_are_cleared(tokenizer: str, tmp_path: Path) -> None:
    path, cache = sources_of(tmp_path), tmp_path / "cache"
    killed = start(path, tokenizer, cache, "die")
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert list(cache.glob("*/.unfinished-*"))
    assert not list(cache.glob("*/store"))
    prepared = run(path, tokenizer, cache)
    assert len(prepared.train) == 60
    assert not list(cache.glob("*/.unfinished-*"))


def test_processes_at_once_make_one_store(tokenizer: str, tmp_path: Path) -> None:
    path = sources_of(tmp_path)
    started = [start(path, tokenizer, tmp_path / "cache", "make") for _ in range(3)]
    told = [process.communicate(timeout=120)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0]
    assert sum("made" in text for text in told) == 1
    assert len({text.splitlines()[-1] for text in told}) == 1


def test_real_dolly_is_prepared_and_found_again(
    real_data: Callable[[str], Path], tmp_path: Path, made: list[str]
) -> None:
    path, pythia = real_data("dolly/dolly-6000.jsonl"), str(real_data("tokenizers/pythia"))
    first, second = (run(path, pythia, tmp_path, max_length=1024, validation=0.05) for _ in range(2))
    assert len(made) == 1
    assert first.report == second.report
    tally = first.report.sources["data"]
    assert tally.records == 6000
    assert first.validation is not None
    assert len(first.train) + len(first.validation) == tally.used
    assert np.array_equal(first.train.keys, second.train.keys)
