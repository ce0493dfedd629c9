"""A run that is repeated gives the same bits; what has changed is named, before training where it can be known."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.runs import digests, train_small_run
from tunesmith.apps.provenance.rerun import run as rerun
from tunesmith.errors import (
    DataError,
    InternalError,
    LockedError,
    MissingInputError,
    RecipeError,
    StoppedError,
    TunesmithError,
    UsageError,
)
from tunesmith.train import steps as steps_module

World = Callable[[str], Path]


@pytest.mark.parametrize("method", ["sft", "dpo", "ppo"])
def test_a_run_is_repeated_to_the_bit(
    method: str, finished: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    original = finished(method) / "run"
    rerun(original, tmp_path / "again", command=["tunesmith", "rerun", "run"])
    *_, last = capsys.readouterr().out.splitlines()
    assert last.startswith("bit-identical: the metrics, the consumed examples and all weights of ")
    assert digests(tmp_path / "again") == digests(original)
    manifest = json.loads((tmp_path / "again" / "manifest.json").read_text())
    assert manifest["starts"][0]["command"] == ["tunesmith", "rerun", "run"]


def test_a_run_that_was_stopped_is_repeated_up_to_its_checkpoint(
    finished: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(StoppedError):
        train_small_run(finished("sft"), "sft", "train.stop_after=3", name="stopped")
    rerun(finished("sft") / "stopped", tmp_path / "again")
    assert "all weights of 3 steps" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "again" / "checkpoints").iterdir())[-1] == "step-000003"


def change_data(world: Path, run: Path) -> str:
    path = world / "demonstrations.jsonl"
    lines = path.read_text().splitlines()
    lines[6] = json.dumps({**json.loads(lines[6]), "response": "another reply"})
    path.write_text("\n".join(lines) + "\n")
    return f"data data.sources.demonstrations ({path}:7): "


def change_key(world: Path, run: Path) -> str:
    edit(run / "recipe.yaml", "learning_rate: 0.01", "learning_rate: 0.02")
    return "recipe train.learning_rate: 0.01 -> 0.02"


def change_seed(world: Path, run: Path) -> str:
    edit(run / "recipe.yaml", "seed: 5", "seed: 6")
    return "seed: 5 -> 6"


def change_package(world: Path, run: Path) -> str:
    edit(run / "manifest.json", f'"torch": "{torch.__version__}"', '"torch": "2.0.0"')
    return f"package torch: 2.0.0 -> {torch.__version__}"


def change_base(world: Path, run: Path) -> str:
    path = world / "base" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    return "base weights model.files.model.safetensors: "


CHANGES = [change_data, change_key, change_seed, change_package, change_base]


def edit(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


@pytest.fixture(scope="module")
def with_base(finished: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world whose run begins with the weights of a directory."""
    root = tmp_path_factory.mktemp("based")
    shutil.copytree(finished("sft") / "run" / "export", root / "base")
    (root / "base" / "tunesmith-manifest.json").unlink()
    train_small_run(root, "sft", "model.init=null", f"model.path={root}/base", "model.tokenizer=null", "train.steps=2")
    return root


@pytest.fixture
def based(with_base: Path) -> Path:
    """The same, as it was before the last test changed it."""
    kept = with_base.with_name("kept")
    if kept.exists():
        shutil.rmtree(with_base)
        shutil.copytree(kept, with_base)
    else:
        shutil.copytree(with_base, kept)
    return with_base


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_changed_is_the_first_difference(
    change: Callable[[Path, Path], str], based: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = change(based, based / "run")
    with pytest.raises(DataError, match="have changed; the first is"):
        rerun(based / "run", None, trains=False)
    first = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("first difference: "))
    assert first.removeprefix("first difference: ").startswith(expected)


def test_nothing_is_named_where_nothing_was_changed(based: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rerun(based / "run", None, trains=False)
    assert capsys.readouterr().out.startswith("nothing differs that decides the result")


def test_the_first_step_with_other_metrics_is_named(based: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change_key(based, based / "run")
    with pytest.raises(DataError, match=r"not bit-identical: step 2: .*train.learning_rate: 0.01 -> 0.02"):
        rerun(based / "run", None)
    assert "\nnot identical: step 2: " in capsys.readouterr().out
    assert (based / "run-rerun" / "metrics.jsonl").is_file()


def test_other_bits_of_the_same_inputs_are_an_error_of_its_own(
    finished: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps_module, "noise_seed", lambda *given: int(torch.randint(0, 2**62, ()).item()))
    with pytest.raises(InternalError, match="nothing that is recorded explains it"):
        rerun(finished("sft") / "run", tmp_path / "again")


def test_a_run_without_a_journal_can_be_repeated(
    based: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As earlier versions recorded it."""
    path = based / "run" / "manifest.json"
    manifest = json.loads(path.read_text())
    for key in ("resolved", "starts", "results", "seal"):
        del manifest[key]
    path.write_text(json.dumps(manifest))
    rerun(based / "run", tmp_path / "again")
    assert "bit-identical" in capsys.readouterr().out
    change_seed(based, based / "run")
    with pytest.raises(DataError, match="the first is seed: 5 -> 6"):
        rerun(based / "run", tmp_path / "again", trains=False)


def with_lines(before: str, after: str = "") -> Callable[[Path], object]:
    """Adds text at the beginning and at the end of the metrics of a run."""

    def change(run: Path) -> None:
        path = run / "metrics.jsonl"
        path.write_text(before + path.read_text() + after)

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (with_lines("[1]\n"), r"metrics.jsonl:1: not a record: it is no JSON object"),
        (with_lines("5\n"), r"metrics.jsonl:1: not a record"),
        (with_lines("", "[]\n"), r"metrics.jsonl:\d+: not a record"),
        (with_lines("[" * 100_000 + "\n"), r"metrics.jsonl:1: not a record"),
        (lambda run: (run / "metrics.jsonl").unlink(), r"metrics.jsonl: the run has no such record"),
        (lambda run: (run / "consumed.jsonl").unlink(), r"consumed.jsonl: the run has no such record"),
        (lambda run: next(run.glob("checkpoints/*2/MANIFEST.json")).unlink(), r"MANIFEST.json: cannot read"),
    ],
)
def test_a_damaged_record_is_named_before_training(
    based: Path, tmp_path: Path, change: Callable[[Path], object], reason: str
) -> None:
    change(based / "run")
    with pytest.raises(TunesmithError, match=reason):
        rerun(based / "run", tmp_path / "again")
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("change", [with_lines("{}\n"), with_lines("", "{}\n")])
def test_a_record_without_a_step_is_a_difference(based: Path, tmp_path: Path, change: Callable[[Path], object]) -> None:
    change(based / "run")
    with pytest.raises(TunesmithError, match=r"not bit-identical: .*step null"):
        rerun(based / "run", tmp_path / "again")


def test_the_directory_of_the_repetition_is_named_by_its_option(based: Path, tmp_path: Path) -> None:
    """`tunesmith rerun` takes no key of a recipe."""
    target = tmp_path / "a b"
    target.mkdir()
    (target / "thesis.tex").write_text("precious")
    with pytest.raises(RecipeError, match=r"is no run.*; append --directory '.*/a b-2'$"):
        rerun(based / "run", target)
    (target / "thesis.tex").unlink()
    with (target / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(LockedError, match=r"another process.*append --directory"):
            rerun(based / "run", target)
    shutil.copytree(based / "run", tmp_path / "other")
    edit(tmp_path / "other" / "recipe.yaml", "seed: 5", "seed: 6")
    with pytest.raises(RecipeError, match=r"append --directory .*other-2; what differs:\n  seed: 6 -> 5") as caught:
        rerun(based / "run", tmp_path / "other")
    assert "run.directory" not in str(caught.value)


def test_a_repetition_that_is_complete_is_not_trained_again(
    based: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for expected in (False, True):
        rerun(based / "run", tmp_path / "again")
        said = capsys.readouterr().out
        assert "bit-identical: " in said
        assert ("again has 2 steps already, which are not trained again" in said) == expected


def test_relative_paths_of_another_directory_are_explained(
    based: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(based / "run" / "recipe.yaml", str(based / "demonstrations.jsonl"), "demonstrations.jsonl")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingInputError, match=r"demonstrations.jsonl: .*in which the run was started"):
        rerun(based / "run", tmp_path / "again")
    edit(based / "run" / "recipe.yaml", "path: demonstrations.jsonl", f"path: {tmp_path}/demonstrations.jsonl")
    with pytest.raises(MissingInputError, match=r"the path does not exist; check it$"):
        rerun(based / "run", tmp_path / "again")


def test_what_cannot_be_repeated_is_refused(based: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not repeated in its own directory"):
        rerun(based / "run", based / "run")
    with pytest.raises(UsageError, match="not repeated in its own directory"):
        rerun(based / "run", based / "run" / "export")
    path = based / "run" / "manifest.json"
    manifest = path.read_text()
    path.write_text(manifest.replace('"hardware": {', '"hardware": {"processes": 2, '))
    with pytest.raises(UsageError, match=r"trained by 2 processes.*tunesmith diff"):
        rerun(based / "run", tmp_path / "again")
    path.write_text(manifest)
    shutil.rmtree(based / "run" / "checkpoints")
    with pytest.raises(MissingInputError, match="no checkpoint"):
        rerun(based / "run", tmp_path / "again")
    with pytest.raises(MissingInputError, match="this is no run"):
        rerun(tmp_path, tmp_path / "again")
