"""Replies in evaluation, the best checkpoint and its export, in whole runs: of both kinds of model, and resumed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.worlds import small_recipe, write_world
from tunesmith.cli.best import best as print_best
from tunesmith.compose import best as module
from tunesmith.compose import train_recipe
from tunesmith.compose.best import best_of_run
from tunesmith.errors import MissingInputError, StoppedError, StorageError
from tunesmith.evaluate.overlap import corpus_bleu, rouge_l
from tunesmith.train.run.selection import CheckpointSelection, SelectionRule

SETTINGS = [
    "train.steps=8",
    "train.save_every=2",
    "train.evaluate_every=1",
    "train.keep=1",
    "train.optimizer={kind: adafactor}",
    "train.schedule={kind: factors, factors: [constant, linear_warmup], warmup_steps: 2}",
    "objective.z_loss=1e-4",
    "objective.label_smoothing=0.1",
    "evaluate={replies: 5, max_new_tokens: 6, batch_size: 2}",
    "train.best={metrics: [{name: validation/loss, mode: min}, {name: validation/rouge_l, mode: max}], keep: 2}",
    "train.best.save=planned",
]
ARCHITECTURES = ("llama", "t5")


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module", params=ARCHITECTURES)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a world with a finished run in ``run``."""
    root = tmp_path_factory.mktemp(request.param)
    write_world(root, architecture=request.param)
    train_recipe(small_recipe(root, SETTINGS))
    return root


def evaluations(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "validation" in line]


def everything(run: Path) -> dict[str, bytes]:
    """The record, the replies, and every checkpoint that is there."""
    names = [
        "metrics.jsonl",
        "export/model.safetensors",
        *(f"predictions/{path.name}" for path in (run / "predictions").iterdir()),
    ]
    weights = {f"{path.parent.name}": path for path in (run / "checkpoints").rglob("model.safetensors")}
    return {name: (run / name).read_bytes() for name in names} | {
        name: path.read_bytes() for name, path in weights.items()
    }


def test_every_evaluation_has_metrics_of_the_replies_that_are_kept(world: Path) -> None:
    found = evaluations(world / "run")
    assert [line["step"] for line in found] == list(range(9))
    assert [line["checkpoint"] for line in found] == [step in (2, 4, 6, 8) for step in range(9)]
    for line in found:
        lines = (world / "run" / "predictions" / f"step-{line['step']:06d}.jsonl").read_text().splitlines()
        kept = [json.loads(each) for each in lines]
        texts, references = [each["reply"] for each in kept], [each["references"] for each in kept]
        metrics = line["validation"]["all"]
        assert metrics["prompts"] == len(kept) == 5
        assert (metrics["bleu"], metrics["rouge_l"]) == (corpus_bleu(texts, references), rouge_l(texts, references))
        assert all(each["tokens"] <= 6 for each in kept)


def test_evaluation_leaves_no_trace_in_the_weights(world: Path) -> None:
    silent = [*SETTINGS[:-2], "train.evaluate_every=null", f"run.directory={world}/silent"]
    run = train_recipe(small_recipe(world, silent)).directory
    for group in ("model", "optimizer"):
        ours, whole = (each / "checkpoints" / "step-000008" / f"{group}.safetensors" for each in (run, world / "run"))
        assert ours.read_bytes() == whole.read_bytes()
    shutil.rmtree(run)


def test_the_chosen_checkpoints_are_there_and_equal_a_recomputation_from_the_record(world: Path) -> None:
    run = world / "run"
    found = best_of_run(run)
    state = json.loads((run / "checkpoints" / "step-000008" / "state.json").read_text())
    assert found.best == state["best"]
    there = {int(path.name.removeprefix("step-")) for path in (run / "checkpoints").iterdir()}
    assert there == {*found.kept, 8}
    values = {line["step"]: line["validation"]["all"] for line in evaluations(run) if line["step"]}
    assert {step: (each["loss"], each["rouge_l"]) for step, each in values.items()} == found.evaluated


@pytest.mark.parametrize(
    "stops",
    [pytest.param((3,), id="once"), pytest.param(tuple(range(1, 8)), id="every step", marks=pytest.mark.exhaustive)],
)
def test_a_run_that_was_stopped_evaluates_and_chooses_the_same(world: Path, stops: tuple[int, ...]) -> None:
    again = [*SETTINGS, f"run.directory={world}/again-{len(stops)}"]
    for stop in stops:
        with pytest.raises(StoppedError):
            train_recipe(small_recipe(world, [*again, f"train.stop_after={stop}"]))
    run = train_recipe(small_recipe(world, again)).directory
    ours, whole = everything(run), everything(world / "run")
    # A stop leaves a checkpoint that is not planned; it is no candidate and goes with the next rotation.
    assert ours == whole
    shutil.rmtree(run)


def test_the_best_can_be_exported_afterwards_and_the_last_by_default(world: Path) -> None:
    run = world / "run"
    last = load_file(run / "checkpoints" / "step-000008" / "model.safetensors")
    exported = load_file(run / "export" / "model.safetensors")
    assert all(torch.equal(last[name], tensor) for name, tensor in exported.items())
    copy = world / "copy"
    shutil.copytree(run, copy)
    train_recipe(small_recipe(world, [*SETTINGS, f"run.directory={copy}", "run.export=best"]))
    best = best_of_run(copy).best
    chosen = load_file(copy / "checkpoints" / f"step-{best:06d}" / "model.safetensors")
    exported = load_file(copy / "export" / "model.safetensors")
    assert all(torch.equal(chosen[name], tensor) for name, tensor in exported.items())
    assert json.loads((copy / "export" / "tunesmith.json").read_text())["steps"] == best
    shutil.rmtree(copy)


def test_a_missing_best_checkpoint_is_one_clear_line(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "best_of_run", lambda directory: CheckpointSelection(SelectionRule(), kept=(3,)))
    with pytest.raises(StorageError, match=r"the checkpoint of step 3, which is .* is missing.*run\.export=last"):
        train_recipe(small_recipe(world, [*SETTINGS, "run.export=best"]))


def test_the_command_prints_every_evaluation_and_the_choice(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_best(world / "run")
    lines = capsys.readouterr().out.splitlines()
    assert "validation/loss (min, weight 1)" in lines[0]
    assert [line.split()[0] for line in lines[1:9]] == [str(step) for step in range(1, 9)]
    assert lines[-1] == f"best checkpoint: step {best_of_run(world / 'run').best}"
    assert sum(line.endswith("best") for line in lines[1:9]) == 1


def test_a_directory_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no such file; name the directory of a run"):
        best_of_run(tmp_path)
