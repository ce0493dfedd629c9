"""The list of runs: what is known about each, in 80 columns, whatever the directories hold."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import pytest

from tests.report.run_directories import evaluation, recipe_values, write_run
from tunesmith.apps.run_page import run as write_page
from tunesmith.apps.runs import find_runs, run
from tunesmith.errors import MissingInputError, RecipeError, UsageError

STATUS: dict[str, Any] = {
    **{"state": "finished", "step": 650, "steps": 650, "updated": "2026-01-02T03:04:05+00:00", "remaining": None},
    **{"reason": "", "checks": []},
}
HOSTILE = "\x1b[2Jname\u202e"


def write_small_run(directory: Path, status: dict[str, Any] = STATUS, **recipe: Any) -> Path:
    metrics = [evaluation(300, 0.5), {"step": 301, "loss": 0.25}, evaluation(600, 0.75), {"step": 601, "loss": 0.2}]
    return write_run(directory, recipe_values(**recipe), {"seed": 1}, status, metrics)


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def listed(directory: Path, target: io.StringIO | None = None, **settings: Any) -> str:
    """What is printed to a pipe, or to another target."""
    target = target or io.StringIO()
    run(directory, target=target, **settings)
    return target.getvalue()


def test_runs_are_listed_with_the_newest_first(tmp_path: Path) -> None:
    write_small_run(tmp_path / "old", {**STATUS, "updated": "2025-01-02T03:04:05+00:00"})
    write_small_run(tmp_path / "group" / "new", {**STATUS, "state": "stopped", "step": 601, "reason": "a\nsignal"})
    header, new, old, reason = listed(tmp_path).splitlines()
    assert header.split() == ["run", "method", "model", "state", "step", "best", "changed", "size"]
    assert new.split()[:7] == ["group/new", "sft", "owner/model", "stopped", "601/650", "loss", "0.5"]
    assert old.split()[:2] == ["old", "sft"]
    assert reason == "group/new: a signal"
    (found, _) = json.loads(listed(tmp_path, as_json=True))
    del found["bytes"]
    assert found == {
        "path": str(tmp_path / "group" / "new"),
        "method": "sft",
        "model": "owner/model",
        "state": "stopped",
        "step": 601,
        "steps": 650,
        "best": 300,
        "metric": "validation/loss",
        "value": 0.5,
        "loss": 0.5,
        "updated": STATUS["updated"],
        "reason": "a\nsignal",
    }


def test_a_run_without_status_is_known_by_its_records(tmp_path: Path) -> None:
    (write_small_run(tmp_path / "run") / "status.json").unlink()
    (found,) = json.loads(listed(tmp_path / "run", as_json=True))
    assert (found["state"], found["step"], found["steps"], found["best"]) == ("stopped", 601, 0, 300)


def test_broken_directories_are_listed_and_break_nothing(tmp_path: Path) -> None:
    write_small_run(tmp_path / "good")
    for name, text in {"list": "- 1", "yaml": "a: [", "bytes": "\udcff"}.items():
        broken = write_small_run(tmp_path / name)
        (broken / "recipe.yaml").write_bytes(text.encode("utf-8", "surrogateescape"))
    (tmp_path / "good" / "metrics.jsonl").write_bytes(b"\xff\n[1]\n{}\n")
    (tmp_path / "good" / "status.json").write_text("[]")
    (tmp_path / "no run").mkdir()
    (tmp_path / "recipe.yaml").write_text("the recipe of a user")
    (tmp_path / "loop").symlink_to(tmp_path)
    found = {Path(each["path"]).name: each["state"] for each in json.loads(listed(tmp_path, as_json=True))}
    assert found == {"good": "stopped", "list": "broken", "yaml": "broken", "bytes": "broken"}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_list_is_json_where_a_value_is_not_finite(tmp_path: Path, value: float) -> None:
    write_run(tmp_path / "run", recipe_values(), {"seed": 1}, STATUS, [evaluation(300, value)])
    (found,) = json.loads(listed(tmp_path, as_json=True), parse_constant=pytest.fail)
    assert (found["best"], found["value"]) == (300, None)
    assert "nan" not in listed(tmp_path)


@pytest.mark.parametrize(("columns", "limit"), [(60, 80), (80, 80), (100, 100)])
def test_the_table_fits_the_terminal_and_has_no_control_character(
    columns: int, limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    name = "a-run-with-a-very-long-name-that-says-everything-about-it"
    write_small_run(tmp_path / name)
    write_small_run(tmp_path / "long", model={"path": "some-organisation/a-model-with-a-long-name-7b-instruct"})
    lines = listed(tmp_path, Terminal()).splitlines()
    assert max(map(len, lines)) == limit
    piped = listed(tmp_path)
    assert name in piped
    assert "some-organisation/a-model-with-a-long-name-7b-instruct" in piped
    write_small_run(tmp_path / HOSTILE, model={"path": HOSTILE})
    text = listed(tmp_path)
    assert "\x1b" not in text
    assert "\\x1b[2Jname\\u202e" in text


def test_an_empty_and_a_missing_directory(tmp_path: Path) -> None:
    assert listed(tmp_path) == f"there are no runs in {tmp_path}\n"
    with pytest.raises(MissingInputError, match="no such directory"):
        run(tmp_path / "absent")


def write_several(directory: Path) -> None:
    """Three runs with other losses, methods, seeds and times, and one whose recipe is broken."""
    for name, loss, kind, seed, day in (("a", 0.5, "sft", 1, 3), ("b", 0.25, "dpo", 2, 1), ("c", 0.75, "sft", 2, 2)):
        status = {**STATUS, "step": 600 + seed, "updated": f"2026-01-0{day}T00:00:00+00:00"}
        recipe = recipe_values(objective={"kind": kind}, seed=seed, note="1", flag=True, train={"learning_rate": 1e-5})
        write_run(directory / name, recipe, {}, status, [evaluation(300, loss)])
    write_run(directory / "d", {}, {}, {**STATUS, "updated": "2025-01-01T00:00:00+00:00"}, [])
    (directory / "d" / "recipe.yaml").write_text("a: [")


def names(directory: Path, **settings: Any) -> str:
    found = json.loads(listed(directory, as_json=True, **settings))
    return "".join(Path(each["path"]).name for each in found)


@pytest.mark.parametrize(
    ("order", "expected"),
    [("time", "dacb"), ("name", "abcd"), ("method", "dbac"), ("loss", "bacd"), ("step", "cbad"), ("state", "dacb")],
)
def test_runs_are_sorted(order: str, expected: str, tmp_path: Path) -> None:
    write_several(tmp_path)
    assert names(tmp_path, order=order) == expected


@pytest.mark.parametrize(
    ("method", "values", "expected"),
    [
        ("sft", (), "ac"),
        (None, [("seed", "2")], "cb"),
        ("sft", [("seed", "2")], "c"),
        (None, [("train.learning_rate", "0.00001")], "acb"),
        (None, [("objective.kind", "dpo")], "b"),
        (None, [("flag", "1")], ""),
        (None, [("note", "1")], ""),
        (None, [("seed", "1"), ("seed", "2")], ""),
    ],
)
def test_runs_are_chosen(method: str | None, values: list[tuple[str, str]], expected: str, tmp_path: Path) -> None:
    """A value is read as in a recipe: 1 is neither true nor the text "1"."""
    write_several(tmp_path)
    assert names(tmp_path, method=method, values=values) == expected


def test_what_no_run_has_is_an_error_with_advice(tmp_path: Path) -> None:
    write_several(tmp_path)
    with pytest.raises(UsageError, match=r"--sort: 'price' is no order; give one of: time, name, method"):
        listed(tmp_path, order="price")
    with pytest.raises(UsageError, match=r"--method: no run here has the method 'ppo'; their methods are: dpo, sft"):
        listed(tmp_path, method="ppo")
    with pytest.raises(UsageError, match=r"--where: no run here has the key 'train.lr'; did you mean 'train.learning"):
        listed(tmp_path, values=[("train.lr", "1")])
    assert listed(tmp_path, values=[("seed", "9")]).startswith("there are no runs with this method and these values in")


def test_pages_are_written_again(tmp_path: Path) -> None:
    write_small_run(tmp_path / "one")
    write_small_run(tmp_path / "two", objective={"kind": "other"})
    one, two = find_runs(tmp_path)
    assert write_page(one) == tmp_path / "one" / "index.html"
    assert "step 650 of 650" in (tmp_path / "one" / "index.html").read_text()
    with pytest.raises(RecipeError, match="no method 'other'"):
        write_page(two)
