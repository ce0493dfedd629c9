"""The page of a run while it trains: it follows the run, changes no bit of it, and never ends it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.report.test_run_page import data_of
from tests.runs import digests
from tests.worlds import ppo_recipe, preference_recipe, small_recipe
from tunesmith.compose.run_page import RunPage
from tunesmith.compose.train import train_recipe
from tunesmith.errors import InternalError, StoppedError
from tunesmith.train.loop import StepResult
from tunesmith.train.run.curves import Curves
from tunesmith.train.run.status import read_status

SHORT = ["train.steps=6", "train.evaluate_every=2", "train.save_every=3", "evaluate.show=2"]


@pytest.fixture
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write the page after every step."""
    usual = RunPage.__call__

    def call(self: RunPage, result: StepResult) -> None:
        self._due = 0.0
        usual(self, result)

    monkeypatch.setattr(RunPage, "__call__", call)


def page_data(run: Path) -> dict[str, Any]:
    return data_of((run / "index.html").read_text())


@pytest.mark.parametrize("recipe", [small_recipe, preference_recipe, ppo_recipe])
def test_the_page_changes_no_bit_of_the_run(
    recipe: Any, tmp_path: Path, every_step: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_page = train_recipe(recipe(tmp_path, SHORT)).directory
    data = page_data(with_page)
    assert (data["steps"], data["evaluated"]) == ([1, 2, 3, 4, 5, 6], [0, 2, 3, 4, 6])
    assert {"learning_rate", "gradient_norm", "tokens/s"} <= set(data["curves"])
    monkeypatch.setattr(RunPage, "write", lambda self: None)
    without = train_recipe(recipe(tmp_path, [*SHORT, f"run.directory={tmp_path / 'without'}"])).directory
    assert not (without / "index.html").exists()
    assert digests(with_page) == digests(without)


def test_the_page_after_stop_and_resume_has_the_whole_history(tmp_path: Path) -> None:
    whole = train_recipe(small_recipe(tmp_path, [*SHORT, f"run.directory={tmp_path / 'whole'}"])).directory
    for stop in (2, 4):
        with pytest.raises(StoppedError):
            train_recipe(small_recipe(tmp_path, [*SHORT, f"train.stop_after={stop}"]))
        status = read_status(tmp_path / "run")
        assert status is not None
        assert (status.state, status.step, status.steps) == ("stopped", stop, 6)
        assert "continues the run" in (tmp_path / "run" / "index.html").read_text()
    run = train_recipe(small_recipe(tmp_path, SHORT)).directory
    for name in ("shown.jsonl", "metrics.jsonl"):
        assert (run / name).read_bytes() == (whole / name).read_bytes()
    found, expected = (page_data(each) for each in (run, whole))
    for data in (found, expected):
        del data["curves"]["tokens/s"], data["updated"]
    assert found == expected
    status = read_status(run)
    assert status is not None
    assert (status.state, status.reason) == ("finished", "")


def test_a_finished_run_that_is_started_again_keeps_its_page(tmp_path: Path) -> None:
    run = train_recipe(preference_recipe(tmp_path, SHORT)).directory
    before = json.loads((run / "status.json").read_text())
    assert {each["kind"] for each in before["checks"]} == {"proof", "gate"}
    train_recipe(preference_recipe(tmp_path, SHORT))
    after = json.loads((run / "status.json").read_text())
    assert (after["step"], after["steps"], after["checks"]) == (6, 6, before["checks"])


def test_a_page_that_cannot_be_written_is_a_notice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = train_recipe(small_recipe(tmp_path, [*SHORT, f"run.directory={tmp_path / 'first'}"])).directory
    with pytest.raises(StoppedError):
        train_recipe(small_recipe(tmp_path, [*SHORT, "train.stop_after=2"]))
    (tmp_path / "run" / "index.html").unlink()
    (tmp_path / "run" / "index.html").mkdir()
    capsys.readouterr()
    run = train_recipe(small_recipe(tmp_path, SHORT)).directory
    printed = capsys.readouterr().err
    assert printed.count("the page of the run cannot be written") == 1
    assert "index.html: cannot write: Is a directory; move away what has this name" in printed
    assert "as a page" not in printed
    assert digests(run) == digests(first)


def test_a_defect_in_the_page_is_a_notice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Curves, "add", lambda *given: 1 / 0)
    train_recipe(small_recipe(tmp_path, SHORT))
    assert (
        "WARNING the page of the run cannot be written; training goes on: division by zero" in capsys.readouterr().err
    )


def test_a_run_that_fails_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: RunPage, result: StepResult) -> None:
        raise InternalError("the loss is not finite")

    monkeypatch.setattr(RunPage, "__call__", fail)
    with pytest.raises(InternalError):
        train_recipe(small_recipe(tmp_path, SHORT))
    status = read_status(tmp_path / "run")
    assert status is not None
    assert (status.state, status.reason) == ("failed", "the loss is not finite")
    assert "the loss is not finite" in (tmp_path / "run" / "index.html").read_text()
