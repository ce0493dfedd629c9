"""Temporary files that a killed process has left in a run go when the run is opened."""

from __future__ import annotations

from pathlib import Path

from tests.train.run.opened_runs import begin_run, open_run


def test_leftovers_of_a_kill_before_the_recipe_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    (tmp_path / ".unfinished-recipe").write_text("na")
    with open_run(tmp_path) as run:
        assert not run.continued
        assert not list(tmp_path.glob(".unfinished-*"))


def test_leftovers_of_a_killed_save_go_when_the_run_is_opened(tmp_path: Path) -> None:
    begin_run(tmp_path)
    (tmp_path / "checkpoints" / ".unfinished-x").mkdir(parents=True)
    (tmp_path / "checkpoints" / "step-000001").mkdir()
    begin_run(tmp_path)
    assert [item.name for item in (tmp_path / "checkpoints").iterdir()] == ["step-000001"]


def test_leftovers_in_an_export_go_too_and_those_behind_a_link_stay(tmp_path: Path) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    begin_run(run)
    (run / "export" / ".eval_results").mkdir(parents=True)
    other.mkdir()
    (run / "predictions").symlink_to(other)
    for directory in (run / "export", run / "export" / ".eval_results", other):
        (directory / ".unfinished-x").write_text("na")
    begin_run(run)
    assert [path.name for path in sorted(tmp_path.rglob(".unfinished-*"))] == [".unfinished-x"]
    assert (other / ".unfinished-x").exists()
