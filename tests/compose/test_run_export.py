"""Checkpoints of a run that is not at its end: exported by step, as the best or the last, and used in a chat."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.worlds import small_recipe, write_world
from tunesmith.apps.chat import run as chat
from tunesmith.apps.chat_loop import ChatStreams
from tunesmith.apps.export import run as export
from tunesmith.cli.export import export as export_command
from tunesmith.compose import train_recipe
from tunesmith.compose.best import best_of_run
from tunesmith.compose.run_export import describe_newer_checkpoint
from tunesmith.errors import MissingInputError, RecipeError, StoppedError, StorageError, UsageError


@pytest.fixture(scope="module", params=["llama", "t5"])
def stopped(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped after step 12 of 30, with evaluations at 7 and 10 and checkpoints at 7, 10 and 12."""
    root = tmp_path_factory.mktemp(request.param)
    write_world(root, architecture=request.param)
    with pytest.raises(StoppedError):
        train_recipe(small_recipe(root, ["train.stop_after=12", "train.keep=5"]))
    return root / "run"


def same_weights(directory: Path, run: Path, step: int) -> bool:
    saved = load_file(run / "checkpoints" / f"step-{step:06d}" / "model.safetensors")
    exported = load_file(directory / "model.safetensors")
    return all(torch.equal(saved[name], tensor) for name, tensor in exported.items())


@pytest.mark.parametrize("choice", [7, 10, "last", "best"])
def test_the_export_has_the_weights_of_the_chosen_checkpoint(
    stopped: Path, tmp_path: Path, choice: int | str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in stopped.rglob("*")}
    export_command(stopped, str(choice), tmp_path / "out")
    step = {"last": 12, "best": best_of_run(stopped).best}.get(str(choice), choice)
    assert isinstance(step, int)
    assert same_weights(tmp_path / "out", stopped, step)
    assert json.loads((tmp_path / "out" / "tunesmith.json").read_text())["steps"] == step
    assert f"exported step {step}" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in stopped.rglob("*")} == before


def test_the_code_of_a_pipeline_comes_on_request_only(stopped: Path, tmp_path: Path) -> None:
    directory, name = tmp_path / "out", "instruct_pipeline.py"
    for wanted in (False, True, False):
        export(stopped, "last", directory, with_pipeline=wanted)
        config = json.loads((directory / "config.json").read_text())
        assert ((directory / name).is_file(), "custom_pipelines" in config) == (wanted, wanted)


def test_a_chat_takes_the_newest_checkpoint_of_a_run_without_an_export(stopped: Path) -> None:
    output, errors = io.StringIO(), io.StringIO()
    settings = {"do_sample": False, "max_new_tokens": 8}
    chat(str(stopped), sampling=settings, streams=ChatStreams(io.StringIO("Say red.\n"), output, errors))
    assert "loading the newest checkpoint of" in errors.getvalue()
    assert "this is the model after step 12" in errors.getvalue()
    same = io.StringIO()
    export(stopped, "last", stopped.parent / "exported")
    chat(
        str(stopped.parent / "exported"),
        sampling=settings,
        streams=ChatStreams(io.StringIO("Say red.\n"), same, errors),
    )
    assert output.getvalue() == same.getvalue()
    shutil.rmtree(stopped.parent / "exported")


def test_a_damaged_checkpoint_is_reported_and_an_older_one_taken(
    stopped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(stopped, run)
    weights = run / "checkpoints" / "step-000012" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    export(run, "last", tmp_path / "out")
    assert same_weights(tmp_path / "out", run, 10)
    assert "damaged" in capsys.readouterr().err
    with pytest.raises(StorageError, match="this checkpoint is damaged"):
        export(run, 12, tmp_path / "twelve")


def test_what_cannot_be_exported_is_named(stopped: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no checkpoint of step 5; there are those of the steps 7, 10, 12"):
        export(stopped, 5, tmp_path / "out")
    with pytest.raises(MissingInputError, match="this is not the directory of a run"):
        export(tmp_path, "last", tmp_path / "out")
    with pytest.raises(UsageError, match="'newest' is no step; give a number, last or best"):
        export_command(stopped, "newest", tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep me")
    with pytest.raises(UsageError, match="this exists already and is no export"):
        export(stopped, "last", tmp_path / "mine")
    run = tmp_path / "run"
    shutil.copytree(stopped, run)
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(MissingInputError, match="the run has no checkpoint yet"):
        export(run, "last", tmp_path / "out")


def test_by_default_the_export_of_the_run_is_written_and_the_run_continues(stopped: Path, tmp_path: Path) -> None:
    root = tmp_path / "world"
    shutil.copytree(stopped.parent, root)
    for path in (root / "recipe.yaml", root / "run" / "recipe.yaml"):
        path.write_text(path.read_text().replace(str(stopped.parent), str(root)))
    export(root / "run", 7, None)
    errors = io.StringIO()
    chat(str(root / "run"), streams=ChatStreams(io.StringIO(), io.StringIO(), errors))
    assert "this is the export of step 7; the newest checkpoint is that of step 12" in errors.getvalue()
    export(root / "run", "last", None)
    assert describe_newer_checkpoint(root / "run") is None
    assert same_weights(root / "run" / "export", root / "run", 12)
    train_recipe(small_recipe(root, ["train.keep=5"]))
    assert same_weights(root / "run" / "export", root / "run", 30)


@pytest.mark.parametrize(
    ("file", "what"), [("tokenizer/tokenizer.json", "tokenizer"), ("base/config.json", "configuration")]
)
def test_a_checkpoint_is_not_exported_with_other_inputs_than_its_run_had(tmp_path: Path, file: str, what: str) -> None:
    root = tmp_path / "world"
    write_world(root)
    base = train_recipe(small_recipe(root, ["train.steps=1", f"run.directory={root}/first"])).export
    shutil.copytree(base, root / "base")
    begin = ["model.init=null", f"model.path={root}/base", "train.stop_after=2"]
    with pytest.raises(StoppedError):
        train_recipe(small_recipe(root, begin))
    export(root / "run", "last", tmp_path / "same")
    path = root / file
    content = json.loads(path.read_text())
    if what == "tokenizer":
        vocabulary = content["model"]["vocab"]
        first, second = list(vocabulary)[40:42]
        vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    else:
        content["rms_norm_eps"] = 0.5
    path.write_text(json.dumps(content))
    with pytest.raises(RecipeError, match=f"the {what}.* is not the one that the run was started with"):
        export(root / "run", "last", tmp_path / "other")
