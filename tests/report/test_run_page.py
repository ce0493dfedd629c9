"""The page of a run: one file that loads nothing, whose only scripts are named in its policy, and that stays small."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.report.run_directories import evaluation, recipe_values, write_hostile_run, write_long_run, write_run
from tests.report.test_compare_page import HOSTILE, Page, digest
from tunesmith.compose.run_page import write_run_page
from tunesmith.report.run_page import PLOT, PLOT_LICENSE, PLOT_STYLE, page_script
from tunesmith.text.visible import visible
from tunesmith.train.run.recorded_recipe import RecordedRecipe
from tunesmith.train.run.shown import LOSS, SHARE, ShownMetric
from tunesmith.train.run.status import read_status

PUBLISHED = {
    PLOT: "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    PLOT_STYLE: "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    PLOT_LICENSE: "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
}
"""File of uPlot 1.6.32 as it is in the package of npm -> SHA-256."""
SHOWN = (LOSS, ShownMetric("accuracy", "token accuracy", SHARE))
STATUS: dict[str, Any] = {
    **{"state": "training", "step": 3, "steps": 10, "updated": "2026-01-02T03:04:05+00:00", "remaining": 65.0},
    **{"reason": "", "checks": [{"kind": "proof", "name": "targets", "status": "pass", "summary": "all 9 records"}]},
}
COUNTS = {"records": 12, "used": 9, "rejected": {"too long": 2}, "dropped": {}, "duplicates": 1, "tokens": 3000}
TEXTS = (["prompt", "Who?"], ["reply", "Nobody"], ["prompt", "Why?"], ["reward +0.50", "Because."])


def write_small_run(directory: Path, **changed: Any) -> Path:
    """A run of three steps with two evaluations, at which all replies but the first stay the same."""
    metrics = [{"step": step, "epoch": 0, "loss": 1 / step, "accuracy": step / 4} for step in range(1, 4)]
    given = {
        "recipe": recipe_values(about="a small run"),
        "manifest": {"seed": 5, "data": {"report": {"sources": {"data": COUNTS}, "train": {"records": 9}}}},
        "status": STATUS,
        "metrics": [evaluation(0, 2.0), *metrics, evaluation(3, 0.25)],
        "shown": [
            {"step": 0, "texts": [["prompt", "Who?"], ["reply", "zzz"], *TEXTS[2:]]},
            {"step": 3, "texts": TEXTS},
        ],
        "timing": [{"step": 1, "seconds": 0.5, "tokens": 100}],
    }
    return write_run(directory, **{**given, **changed})


def write_page(directory: Path) -> Path:
    status = read_status(directory)
    assert status is not None
    return write_run_page(directory, RecordedRecipe.read(directory).rule(), SHOWN, status)


def page_of(directory: Path) -> str:
    return write_page(directory).read_text("utf-8")


def data_of(text: str) -> dict[str, Any]:
    (data,) = Page(text).texts["script application/json"]
    return json.loads(data)


def cells(text: str, heading: str) -> str:
    """The text of a section without its tags and line breaks."""
    section = text.partition(f"<h2>{heading}</h2>")[2].partition("</section>")[0]
    return " ".join(" ".join(part.partition(">")[2] for part in section.split("<")).split())


@pytest.mark.parametrize("name", PUBLISHED)
def test_uplot_is_as_it_was_published(name: str) -> None:
    content = files("tunesmith.report").joinpath(name).read_bytes()
    assert hashlib.sha256(content).hexdigest() == PUBLISHED[name]


def test_the_policy_allows_the_scripts_and_the_style_of_the_page_and_nothing_else(tmp_path: Path) -> None:
    page = Page(page_of(write_small_run(tmp_path / "run")))
    plot = files("tunesmith.report").joinpath(PLOT).read_text("utf-8")
    assert page.texts["script"] == [plot, page_script()]
    assert page.policy == {
        "default-src": "'none'",
        "script-src": f"{digest(plot)} {digest(page_script())}",
        "style-src": digest(page.texts["style"][0]),
        "require-trusted-types-for": "'script'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert not {"link", "iframe", "img", "object", "embed", "base", "a"} & {tag for tag, _ in page.tags}
    assert not [name for _, attributes in page.tags for name in attributes if name in ("src", "href", "style")]


def test_the_scripts_write_no_html() -> None:
    scripts = page_script() + files("tunesmith.report").joinpath(PLOT).read_text("utf-8")
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "srcdoc", "new Function"):
        assert word not in scripts


def test_everything_is_readable_without_script(tmp_path: Path) -> None:
    text = page_of(write_small_run(tmp_path / "a run"))
    head = text.partition("<main>")[0]
    for part in ("<h1>a run</h1>", "training", "step 3 of 10 (30%), epoch 1, 1:05 left", "a small run", "0.3333"):
        assert part in head
    assert "loss 1 0.3333 1 0.3333" in cells(text, "Curves")
    assert "step 0 zzz step 3 chosen Nobody" in cells(text, "Replies at the evaluations")
    assert "Why? steps 0 to 3 chosen reward +0.50 Because." in cells(text, "Replies at the evaluations")
    assert "3 0.2500 50.0% chosen" in cells(text, "Evaluations")
    assert "data 12 9 2 too long, 1 duplicate 3,000" in cells(text, "Data")
    assert "pass targets all 9 records" in cells(text, "Checks before the first step")
    assert "<dt>seed</dt><dd>5</dd>" in text
    assert "about: a small run" in text


def test_the_data_have_the_curves_and_the_evaluations(tmp_path: Path) -> None:
    found = data_of(page_of(write_small_run(tmp_path / "run")))
    assert (found["steps"], found["evaluated"], found["best"]) == ([1, 2, 3], [0, 3], 3)
    assert found["curves"]["loss"] == [[1, 0.5, 0.333333], [], []]
    assert found["validation"] == [["validation", {"loss": [2, 0.25], "accuracy": [0.5, 0.5]}]]
    titles = [(title, kind) for title, kind, *_ in found["charts"]]
    assert titles == [("loss", "number"), ("token accuracy", "share"), ("tokens per second", "number")]


def test_a_reply_of_the_data_is_written_once_with_its_score_at_every_evaluation(tmp_path: Path) -> None:
    scores = {0: (0.1, 0.2), 3: (0.9, -0.5)}
    shown = [
        {"step": step, "texts": [["prompt", "Who?"], [f"{one:+.2f} chosen", "Ann."], [f"{two:+.2f} rejected", "No."]]}
        for step, (one, two) in scores.items()
    ]
    found = cells(page_of(write_small_run(tmp_path / "run", shown=shown)), "Replies at the evaluations")
    assert found.endswith("reply step 0 step 3 (chosen) Ann. chosen +0.10 +0.90 No. rejected +0.20 -0.50")


def test_amounts_have_all_their_digits_and_one_record_is_no_plural(tmp_path: Path) -> None:
    report = {"sources": {"data": COUNTS}, "train": {"records": 9}, "duplicates": 1}
    text = page_of(
        write_small_run(
            tmp_path / "run",
            metrics=[evaluation(3, 0.25, targets=2163, units=25159)],
            manifest={"data": {"report": report}},
            timing=[{"step": step, "seconds": 20.5, "tokens": 100} for step in (1, 2, 3, 3)],
        )
    )
    assert "3 0.2500 50.0% 2,163 25,159 chosen" in cells(text, "Evaluations")
    assert "1 record repeats an earlier one and is kept." in cells(text, "Data")
    assert "<dt>time of all steps</dt><dd>1:22</dd>" in text


@pytest.mark.parametrize("state", ["training", "finished", "failed", "stopped"])
def test_only_a_run_that_trains_loads_its_page_again(tmp_path: Path, state: str) -> None:
    directory = write_small_run(tmp_path / "run", status={**STATUS, "state": state})
    assert bool(data_of(page_of(directory))["reload"]) is (state == "training")


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_text_adds_no_element(text: str, tmp_path: Path) -> None:
    pages = []
    for number, each in enumerate((text.replace("\ud800", ""), "harmless")):
        texts = [each, "x onerror", *(f"{each}{index}" for index in range(3))]
        pages.append(Page(page_of(write_hostile_run(tmp_path / str(number), texts))))
    hostile, harmless = pages
    assert hostile.tags == harmless.tags or [tag for tag, _ in hostile.tags] == [tag for tag, _ in harmless.tags]
    assert hostile.texts["script"] == harmless.texts["script"]


@settings(max_examples=60, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30) | st.sampled_from(HOSTILE[:5]))
def test_any_text_comes_back_from_the_data(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("run")
    records: Sequence[Any] = [{"step": 1, f"x{text}": 2.0}, evaluation(1, 0.5, [text, "other"], **{f"y{text}": 1.0})]
    found = data_of(page_of(write_small_run(directory, metrics=records, shown=[{"step": 1, "texts": [[text, text]]}])))
    assert visible(f"x{text}") in found["curves"]
    if text != "all":
        assert visible(text) in [label for label, _ in found["validation"]]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(("data", "report", "x")), inner),
    max_leaves=10,
)


@settings(max_examples=60, deadline=None)
@given(report=JSON, rest=JSON)
def test_any_manifest_gives_a_page(report: Any, rest: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    sources = {"sources": report, "train": report, "duplicates": report, "x": rest}
    for manifest in ({"data": {"report": sources}}, {"data": rest}, rest):
        directory = write_small_run(tmp_path_factory.mktemp("run"), manifest=manifest)
        assert "Checks before the first step" in page_of(directory)


def test_a_deep_manifest_gives_a_page(tmp_path: Path) -> None:
    deep: Any = 1
    for _ in range(400):
        deep = {"x": [deep]}
    assert "Manifest" in page_of(write_small_run(tmp_path / "run", manifest=deep))


def test_the_page_of_a_long_run_is_small(tmp_path: Path) -> None:
    page = write_page(write_long_run(tmp_path / "run", steps=5000))
    assert page.stat().st_size < 2_000_000
    found = data_of(page.read_text("utf-8"))
    assert len(found["steps"]) <= 1000
    assert found["steps"][-1] == 5000
    mean, low, high = found["curves"]["loss"]
    assert all(a <= b <= c for a, b, c in zip(low, mean, high, strict=True))
