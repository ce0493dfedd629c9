"""The length of a run: more epochs after its end, an early end, and warnings about the plan before the first step."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.worlds import small_recipe, write_world
from tunesmith.cli.best import best as print_best
from tunesmith.compose import train_recipe
from tunesmith.compose.best import best_of_run
from tunesmith.compose.check.recipe import collect_checks
from tunesmith.compose.components.tokenizer import check_start_format
from tunesmith.errors import RecipeError, StoppedError, StorageError
from tunesmith.train.run import checkpoint

CONSTANT = [
    "train.schedule={kind: constant}",
    "train.evaluate_every=null",
    "train.save_every=null",
    "data.validation=0",
]
# The rate is far too high, so the validation loss has its minimum early.
UNSTABLE = [
    "train.steps=12",
    "train.learning_rate=0.2",
    "train.schedule={kind: constant}",
    "train.evaluate_every=1",
    "train.save_every=null",
    "train.keep=1",
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("world")
    write_world(found)
    return found


def run(root: Path, name: str, settings: list[str]) -> Path:
    return train_recipe(small_recipe(root, [*settings, f"run.directory={root}/{name}"])).directory


def evaluations(directory: Path) -> dict[int, dict[str, Any]]:
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line for line in lines if "validation" in line}


def weights(directory: Path, step: int) -> tuple[bytes, bytes]:
    groups = (directory / "checkpoints" / f"step-{step:06d}" / f"{name}.safetensors" for name in ("model", "optimizer"))
    first, second = (path.read_bytes() for path in groups)
    return first, second


def test_a_run_that_is_continued_after_its_end_says_so_at_the_end(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = {}
    for steps in (2, 2, 5):
        run(root, "longer", [*CONSTANT, f"train.steps={steps}"])
        printed[steps] = capsys.readouterr().err
    assert "the run had ended" not in printed[2]
    assert "the run had ended after 2 steps; it was continued to 5, and its export is new\n" in printed[5]
    with pytest.raises(StoppedError):
        run(root, "halted", [*CONSTANT, "train.steps=5", "train.stop_after=2"])
    run(root, "halted", [*CONSTANT, "train.steps=5"])
    assert "the run had ended" not in capsys.readouterr().err


@pytest.mark.parametrize("length", ["steps", "epochs"])
def test_a_finished_run_that_gets_longer_ends_as_if_it_had_that_length_from_the_beginning(
    root: Path, length: str, capsys: pytest.CaptureFixture[str]
) -> None:
    short, long = (
        (["train.steps=4"], ["train.steps=9"])
        if length == "steps"
        else (["train.epochs=0.25", "train.steps=null"], ["train.epochs=0.75", "train.steps=null"])
    )
    whole = run(root, f"whole-{length}", [*CONSTANT, *long])
    continued = run(root, f"continued-{length}", [*CONSTANT, *short])
    before = (continued / "export" / "model.safetensors").read_bytes()
    run(root, f"continued-{length}", [*CONSTANT, *long])
    last = max((whole / "checkpoints").iterdir()).name.removeprefix("step-")
    assert weights(continued, int(last)) == weights(whole, int(last))
    exports = [(each / "export" / "model.safetensors").read_bytes() for each in (continued, whole)]
    assert exports[0] == exports[1] != before
    assert (continued / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    printed = capsys.readouterr().err
    assert f"changed since the last start of the run: train.{length}:" in printed
    assert "the schedule with it" not in printed


def test_a_longer_run_says_that_its_schedule_is_another_one(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schedule = [*CONSTANT, "train.schedule={kind: linear}"]
    run(root, "decayed", [*schedule, "train.steps=4"])
    run(root, "decayed", [*schedule, "train.steps=8"])
    assert "step 4 had the learning rate 0.0025 and would have 0.00625 now" in " ".join(capsys.readouterr().err.split())


def test_a_run_cannot_become_shorter_than_it_is(root: Path) -> None:
    run(root, "shorter", [*CONSTANT, "train.steps=4"])
    message = (
        "the run has 4 steps already, and with this length it would have 2; for a new run append "
        rf"run\.directory={root}/shorter-2; to go on with the length of this run append train\.steps=4$"
    )
    for _ in range(2):  # the first refused start has not changed the length that the second one names
        with pytest.raises(RecipeError, match=message):
            run(root, "shorter", [*CONSTANT, "train.steps=2"])
    with pytest.raises(RecipeError, match=r"append train\.epochs=null train\.steps=4$"):
        run(root, "shorter", [*CONSTANT, "train.steps=null", "train.epochs=0.1"])
    assert (root / "shorter" / "export" / "model.safetensors").is_file()


def test_the_best_evaluation_is_saved_although_no_checkpoint_is_planned_there(root: Path) -> None:
    directory = run(root, "wins", [*UNSTABLE, "train.steps=6", "run.export=best"])
    losses = {step: line["validation"]["all"]["loss"] for step, line in evaluations(directory).items() if step}
    best = min(losses, key=lambda step: (losses[step], step))
    assert 1 < best < 6, "the curve has its minimum inside, or the test shows nothing"
    assert best_of_run(directory).best == best
    assert {path.name for path in (directory / "checkpoints").iterdir()} == {f"step-{best:06d}", "step-000006"}
    info = json.loads((directory / "export" / "tunesmith.json").read_text())
    assert info["steps"] == best
    won = [step for step in losses if losses[step] < min([math.inf, *(losses[each] for each in losses if each < step)])]
    assert [step for step, line in evaluations(directory).items() if line["checkpoint"]] == [*won, 6]


def test_with_planned_the_best_is_among_the_checkpoints_of_save_every_and_that_is_said(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = run(root, "planned", [*UNSTABLE, "train.best={save: planned}"])
    assert [step for step, line in evaluations(directory).items() if line["checkpoint"]] == [12]
    printed = " ".join(capsys.readouterr().err.split())
    assert "11 evaluations, such as that of step 1, are at steps without a checkpoint" in printed


@pytest.mark.parametrize("export", ["last", "best"])
def test_training_ends_early_and_a_restart_knows_it(
    root: Path, export: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [*UNSTABLE, "train.patience=2", f"run.export={export}"]
    directory = run(root, f"patient-{export}", settings)
    losses = {step: line["validation"]["all"]["loss"] for step, line in evaluations(directory).items() if step}
    best, last = min(losses, key=lambda step: (losses[step], step)), max(losses)
    assert last == best + 2 < 12
    info = json.loads((directory / "export" / "tunesmith.json").read_text())
    assert info["steps"] == (best if export == "best" else last)
    text = f"the run is complete: it ended early after step {last} of 12 (train.patience)"
    assert text in capsys.readouterr().err
    run(root, f"patient-{export}", settings)
    assert text in capsys.readouterr().err
    assert max(evaluations(directory)) == last
    print_best(directory)


def test_more_patience_continues_a_run_that_ended_early(root: Path) -> None:
    whole = run(root, "impatient-whole", [*UNSTABLE, "train.patience=4"])
    directory = run(root, "impatient", [*UNSTABLE, "train.patience=1"])
    assert max(evaluations(directory)) < max(evaluations(whole))
    run(root, "impatient", [*UNSTABLE, "train.patience=4"])
    assert (directory / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert weights(directory, max(evaluations(whole))) == weights(whole, max(evaluations(whole)))


def test_a_run_that_was_stopped_ends_early_at_the_same_step(root: Path) -> None:
    whole = run(root, "stopped-whole", [*UNSTABLE, "train.patience=2"])
    last = max(evaluations(whole))
    for stop in range(1, last):
        with pytest.raises(StoppedError):
            run(root, f"stopped-{stop}", [*UNSTABLE, "train.patience=2", f"train.stop_after={stop}"])
        again = run(root, f"stopped-{stop}", [*UNSTABLE, "train.patience=2"])
        assert (again / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
        assert weights(again, last) == weights(whole, last)
        shutil.rmtree(again)


@contextmanager
def disk_with(free: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
        yield


def test_too_little_space_is_found_before_the_first_step(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = sum(
        path.stat().st_size for path in (run(root, "sized", [*CONSTANT, "train.steps=1"]) / "checkpoints").rglob("*")
    )
    enough = ["train.steps=9", "train.save_every=1", *CONSTANT[:2], "data.validation=0"]
    with (
        disk_with(3 * size, monkeypatch),
        pytest.raises(StorageError, match=r"3 checkpoints of .* bytes and an export"),
    ):
        run(root, "full", [*enough, "train.keep=2"])
    assert not (root / "full" / "metrics.jsonl").read_bytes()
    with disk_with(5 * size, monkeypatch):
        run(root, "full", [*enough, "train.keep=2"])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            ["train.schedule={kind: cosine, warmup_steps: 500}"],
            "the warm-up (steps: 500) is not over at the last step of the run, 30",
        ),
        (["train.schedule={kind: linear, warmup_steps: 30}"], "the largest learning rate is 0.0097, not 0.01"),
        (["train.batch_size=60"], "48 examples of an epoch are fewer than a batch of 60: each epoch is one step"),
        (["train.evaluate_every=30", "train.save_every=null"], "30 steps of the run have one evaluation, at the end"),
        (["train.best={save: planned}"], "2 evaluations, such as that of step 10, are at steps without a checkpoint"),
    ],
)
def test_check_warns_of_periods_without_effect(root: Path, settings: list[str], words: str) -> None:
    checks = collect_checks(small_recipe(root, settings), lambda *_: None, with_model=False).report.checks
    found = [check for check in checks if check.name == "plan"]
    assert [check.status for check in found] == ["warn"]
    assert words in found[0].summary


def test_a_run_without_place_for_a_warm_up_gets_no_words_that_change_nothing(root: Path) -> None:
    settings = ["train.schedule={kind: cosine, warmup_steps: 50}", "train.steps=1"]
    checks = collect_checks(small_recipe(root, settings), lambda *_: None, with_model=False).report.checks
    (advice,) = [check.advice for check in checks if check.name == "plan" and "warm-up" in check.summary]
    assert "warmup_steps" not in advice
    assert "lower train.batch_size" in advice


@pytest.mark.parametrize("settings", [[], ["train.evaluate_every=30", "train.save_every=7"]])
def test_check_passes_a_plan_without_a_fault(root: Path, settings: list[str]) -> None:
    checks = collect_checks(small_recipe(root, settings), lambda *_: None, with_model=False).report.checks
    assert [(check.status, check.summary) for check in checks if check.name == "plan"] == [
        ("pass", "30 optimizer steps are enough for warm-up, evaluations and checkpoints")
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["train.patience=2", "data.validation=0", "train.evaluate_every=null"], "train.patience.*no validation data"),
        (
            ["train.patience=2", "train.evaluate_every=null", "train.save_every=null"],
            "train.patience.*set train.evaluate",
        ),
    ],
)
def test_patience_needs_evaluations(root: Path, settings: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=f"(?s){message}"):
        small_recipe(root, settings)


def test_an_export_is_trained_on_in_its_own_prompt_format_only(root: Path, tmp_path: Path) -> None:
    export = run(root, "start", [*CONSTANT, "train.steps=1"]) / "export"
    begin = [*CONSTANT, "train.steps=1", "model.init=null", "model.tokenizer=null", f"model.path={export}"]
    other = [*begin, "text.format=tulu"]
    message = (
        "was trained with prompt format 'dolly', this recipe uses 'tulu'; set text.format and text.options to those"
    )
    with pytest.raises(RecipeError, match=message):
        run(root, "other", other)
    checked = collect_checks(small_recipe(root, other), lambda *_: None, with_model=False)
    assert (checked.exit_code, checked.report.checks[-1].name) == (78, "cannot begin: model")
    assert message in f"{checked.report.checks[-1].summary}; {checked.report.checks[-1].advice}"
    run(root, "same", begin)
    run(root, "meant", [*other, "model.change_format=true"])


@pytest.mark.parametrize(
    ("options", "same"), [("{}", True), ("{bos: true, strip: true}", True), ("{bos: false}", False)]
)
def test_an_option_that_is_left_out_has_its_default(root: Path, tmp_path: Path, options: str, same: bool) -> None:
    (tmp_path / "tunesmith.json").write_text('{"format": "tulu", "options": {"bos": true}}')
    begin = ["model.init=null", f"model.path={tmp_path}", "text.format=tulu", f"text.options={options}"]
    recipe = small_recipe(root, begin).recipe
    if same:
        check_start_format(recipe)
        return
    with pytest.raises(RecipeError, match=r"was trained with prompt format 'tulu' with .*, this recipe uses"):
        check_start_format(recipe)
