"""What a user gets for bad input: one clear line with place and advice, an exit code, and nothing half-written."""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.model.trees import small_model
from tests.worlds import write_world
from tunesmith.cli.main import main
from tunesmith.train.run import checkpoint

Attempt = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def tunesmith(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Attempt:
    """tunesmith("train", ...) -> (exit code, lines of errors)."""

    def attempt(*words: str) -> tuple[int, list[str]]:
        monkeypatch.setattr(sys, "argv", ["tunesmith", *words])
        with pytest.raises(SystemExit) as stop:
            main()
        lines = capfd.readouterr().err.splitlines()
        assert not any("Traceback" in line for line in lines), lines
        return int(stop.value.code or 0), [line for line in lines if line.startswith("tunesmith: error: ")]

    return attempt


def demonstrations(root: Path) -> Path:
    return root / "demonstrations.jsonl"


def rewrite(root: Path, change: Callable[[list[str]], list[str]]) -> None:
    lines = demonstrations(root).read_text().splitlines()
    demonstrations(root).write_text("\n".join(change(lines)) + "\n")


def with_record(line: int, **fields: object) -> Callable[[list[str]], list[str]]:
    """Change fields of the record on ``line`` (from 1); a field that becomes None is left out."""

    def change(lines: list[str]) -> list[str]:
        record = {**json.loads(lines[line - 1]), **fields}
        lines[line - 1] = json.dumps({key: value for key, value in record.items() if value is not None})
        return lines

    return change


def gzipped_and_cut(root: Path) -> None:
    content = gzip.compress(demonstrations(root).read_bytes())
    (root / "cut.jsonl.gz").write_bytes(content[: len(content) // 2])


def pickled_model(root: Path) -> None:
    small_model("llama").save_pretrained(root / "model")
    (root / "model" / "model.safetensors").rename(root / "model" / "pytorch_model.bin")


def nothing(root: Path) -> None:
    return None


CASES: dict[str, tuple[Callable[[Path], object], list[str], int, list[str]]] = {
    "unknown key": (nothing, ["train.learning_rte=1e-5"], 78, ["train.learning_rte", "train.learning_rate"]),
    "wrong type": (nothing, ["train.batch_size=many"], 78, ["train.batch_size", "many"]),
    "no such layer": (nothing, ["tinny"], 78, ["tinny", "tiny"]),
    "missing file": (
        lambda root: demonstrations(root).unlink(),
        [],
        66,
        ["demonstrations.jsonl"],
    ),
    "empty file": (lambda root: demonstrations(root).write_text(""), [], 66, ["demonstrations.jsonl", "empty"]),
    "gzip cut in the middle": (
        gzipped_and_cut,
        ["data.sources=[{path: ROOT/cut.jsonl.gz, reader: dolly}]"],
        65,
        ["cut.jsonl.gz"],
    ),
    "invalid UTF-8": (
        lambda root: demonstrations(root).write_bytes(demonstrations(root).read_bytes() + b'{"instruction": "\xff"}\n'),
        [],
        65,
        ["demonstrations.jsonl:61", "UTF-8"],
    ),
    "record without response": (
        lambda root: rewrite(root, with_record(7, response=None)),
        [],
        65,
        ["demonstrations.jsonl:7", "response"],
    ),
    "empty response": (
        lambda root: rewrite(root, with_record(9, response="")),
        [],
        65,
        ["demonstrations.jsonl:9", "response", "empty"],
    ),
    "all records too long": (nothing, ["text.max_length=5"], 66, ["60 records", "text.max_length"]),
    "tokenizer without the needed tokens": (
        lambda root: _without_end(root / "tokenizer"),
        ["text.format=alpaca"],
        65,
        ["eos"],
    ),
    "more positions than the model has": (
        nothing,
        ["text.max_length=5000"],
        78,
        ["text.max_length", "2,048 positions"],
    ),
    "pickled weights only": (
        pickled_model,
        ["model.init=null", "model.path=ROOT/model"],
        65,
        ["only pickled weights", "safetensors"],
    ),
    "no such model": (nothing, ["model.init=null", "model.path=ROOT/nothing"], 66, ["nothing"]),
    "a model with too few rows": (nothing, ["model.resize=none", "model.init.vocab_size=20"], 78, ["model.resize"]),
}


def _without_end(directory: Path) -> None:
    path = directory / "tokenizer_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in config.items() if not key.endswith("_token")}))


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_one_clear_line_and_nothing_is_half_written(name: str, tmp_path: Path, tunesmith: Attempt) -> None:
    prepare, words, code, fragments = CASES[name]
    recipe = write_world(tmp_path)
    prepare(tmp_path)
    found, lines = tunesmith("train", str(recipe), *(word.replace("ROOT", str(tmp_path)) for word in words))
    assert found == code, lines
    assert len(lines) == 1
    for fragment in fragments:
        assert fragment in lines[0]
    run = tmp_path / "run"
    written = (
        {path.name for path in run.rglob("*")} - {"lock", "recipe.yaml", "manifest.json"} if run.exists() else set()
    )
    assert not written
    assert not list((tmp_path / "cache").rglob("*.bin")) or code == 78 or "weights" in name


def test_every_bad_record_is_named_before_anything_is_written(tmp_path: Path, tunesmith: Attempt) -> None:
    recipe = write_world(tmp_path)
    rewrite(tmp_path, with_record(3, response=7))
    rewrite(tmp_path, with_record(5, instruction=""))
    code, lines = tunesmith("train", str(recipe))
    assert code == 65
    text = "\n".join(lines)
    assert "demonstrations.jsonl:3" in text
    assert "demonstrations.jsonl:5" in text


def test_a_run_directory_in_use_is_refused(tmp_path: Path, tunesmith: Attempt) -> None:
    recipe = write_world(tmp_path)
    (tmp_path / "run").mkdir()
    descriptor = os.open(tmp_path / "run" / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    code, lines = tunesmith("train", str(recipe))
    os.close(descriptor)
    assert code == 76
    assert len(lines) == 1
    assert "run.directory" in lines[0]


def test_a_disk_that_fills_up_while_saving_keeps_the_last_good_checkpoint(
    tmp_path: Path, tunesmith: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = write_world(tmp_path)
    assert tunesmith("train", str(recipe), "train.stop_after=8")[0] == 75
    whole = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: whole._replace(free=1 << 20))
    code, lines = tunesmith("train", str(recipe))
    assert code == 74
    assert len(lines) == 1
    assert "1,048,576 available" in lines[0]
    monkeypatch.undo()
    found = checkpoint.newest(tmp_path / "run" / "checkpoints", lambda text: pytest.fail(text))
    assert found is not None
    assert found.step == 8


def test_another_recipe_in_the_same_run_directory_is_refused_with_the_difference(
    tmp_path: Path, tunesmith: Attempt
) -> None:
    recipe = write_world(tmp_path)
    assert tunesmith("train", str(recipe), "train.stop_after=2")[0] == 75
    code, lines = tunesmith("train", str(recipe), "train.learning_rate=0.5")
    assert code == 78
    assert "train.learning_rate" in "\n".join(lines)


def test_changed_data_are_refused_on_resume(tmp_path: Path, tunesmith: Attempt) -> None:
    recipe = write_world(tmp_path)
    assert tunesmith("train", str(recipe), "train.stop_after=2")[0] == 75
    rewrite(tmp_path, with_record(4, response="something else"))
    code, lines = tunesmith("train", str(recipe))
    assert code == 78
    assert "data" in "\n".join(lines)
