"""What a manifest says about a run: commands, code, packages, times, and hashes of what has come out."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.worlds import small_recipe
from tunesmith.compose import software, train_recipe
from tunesmith.errors import InternalError, StoppedError
from tunesmith.files import sha256
from tunesmith.train.run.journal import JOURNAL, SEAL

STEPS = ("train.steps=3", "train.evaluate_every=null", "data.validation=0")


def train(root: Path, *overrides: str, command: tuple[str, ...] = ("tunesmith", "train", "x")) -> Path:
    return train_recipe(small_recipe(root, [*STEPS, *overrides]), command=command).directory


def read(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "manifest.json").read_text())
    return found


def test_a_run_in_two_starts_has_two_entries_and_the_hashes_of_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hf_never_recorded")
    with pytest.raises(StoppedError):
        train(tmp_path, "train.stop_after=2")
    assert read(tmp_path / "run")["results"]["step"] == 2
    run = train(tmp_path, command=("tunesmith", "train", f"{Path.home()}/x.yaml"))
    manifest = read(run)
    first, second = manifest["starts"]
    assert (first["step"], first["state"], second["step"], second["state"]) == (0, "stopped", 2, "finished")
    assert first["command"] == ["tunesmith", "train", "x"]
    assert second["command"] == ["tunesmith", "train", "~/x.yaml"]
    times = [datetime.fromisoformat(each[key]) for each in (first, second) for key in ("time", "ended")]
    assert times == sorted(times)
    assert manifest["resolved"]["origins"]["train.steps"] == "command line"
    assert manifest["resolved"]["values"]["train"]["steps"] == 3
    results = manifest["results"]
    for name, digest in results["files"].items():
        assert sha256(run / name) == digest
    for name, files in results["checkpoints"].items():
        for file, digest in files.items():
            assert sha256(run / "checkpoints" / name / file) == digest
    assert results["export"]["model.safetensors"] == sha256(run / "export" / "model.safetensors")
    assert {"metrics.jsonl", "consumed.jsonl"} <= results["files"].keys()
    assert "hf_never_recorded" not in (run / "manifest.json").read_text()


def test_a_run_of_an_earlier_version_goes_on_and_gets_a_journal(tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        train(tmp_path, "train.stop_after=2")
    path = tmp_path / "run" / "manifest.json"
    earlier = {key: value for key, value in read(path.parent).items() if key not in (*JOURNAL, SEAL)}
    path.write_text(json.dumps(earlier))
    manifest = read(train(tmp_path))
    assert [each["step"] for each in manifest["starts"]] == [2]
    assert {key: manifest[key] for key in earlier} == earlier


def test_other_code_packages_and_machine_of_an_earlier_start_do_not_refuse_a_run(tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        train(tmp_path, "train.stop_after=2")
    path = tmp_path / "run" / "manifest.json"
    manifest = read(path.parent)
    manifest["starts"][0].update(packages={"torch": "0"}, cpu="another", code={"commit": "0" * 40}, platform="another")
    path.write_text(json.dumps(manifest))
    first, second = read(train(tmp_path))["starts"]
    assert (first["cpu"], second["cpu"]) == ("another", software.processor_name())


def test_records_that_were_changed_since_the_run_stopped_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The digests are replaced at the end of the next start, so the damage would be hidden from then on."""
    steps = ("train.evaluate_every=1", "data.validation=4", "evaluate.show=2")
    for done in ("1", "2"):
        with pytest.raises(StoppedError):
            train(tmp_path, *steps, f"train.stop_after={done}")
    assert "was changed since" not in capsys.readouterr().err
    run = tmp_path / "run"
    (run / "shown.jsonl").write_text((run / "shown.jsonl").read_text().replace("text", "test", 1))
    (run / "timing.jsonl").unlink()
    train(tmp_path, *steps)
    shown = capsys.readouterr().err
    assert [name for name in ("metrics", "consumed", "timing", "shown") if f"{name}.jsonl is missing" in shown] == [
        "timing",
        "shown",
    ]
    train(tmp_path, *steps)
    assert "was changed since" not in capsys.readouterr().err


def test_a_run_that_fails_says_so(tmp_path: Path) -> None:
    def fail(result: object) -> None:
        raise InternalError("planted")

    with pytest.raises(InternalError, match="planted"):
        train_recipe(small_recipe(tmp_path, STEPS), callbacks=[fail])
    assert [each["state"] for each in read(tmp_path / "run")["starts"]] == ["failed"]


def git(root: Path, *words: str) -> None:
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull}
    names = ("-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run(["git", *names, *words], cwd=root, check=True, capture_output=True, env=environment)


def test_the_code_is_a_commit_and_a_digest_of_what_is_not_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "tunesmith"
    package.mkdir()
    (package / "a.py").write_text("a = 1\n")
    assert software.describe_code(package, "x").keys() == {"version", "sources"}
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "one")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    committed = software.describe_code(package, "x")
    assert len(committed["commit"] or "") == 40
    assert committed["changes"] is None
    (tmp_path / "notes").write_text("outside of the package")
    assert software.describe_code(package, "x") == committed
    (package / "a.py").write_text("a = 2\n")
    changed = software.describe_code(package, "x")["changes"]
    (package / "b.py").write_text("b = 1\n")
    assert len({None, changed, software.describe_code(package, "x")["changes"]}) == 3


def test_packages_are_those_that_are_loaded() -> None:
    found = software.loaded_packages()
    assert {"torch", "transformers", "PyYAML", "pytest"} <= found.keys()
