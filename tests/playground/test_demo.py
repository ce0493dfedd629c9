"""The demo as a whole, so small that it learns nothing: every phase runs and the record is complete."""

from __future__ import annotations

import json

import pytest

from tunesmith.playground.demo import ASSISTANT, BASE, EXACT, STOPPED, run
from tunesmith.playground.exercises import MAKERS

SIZES = {"documents": 60, "demonstrations": dict.fromkeys(MAKERS, 8), "held_out": 2, "vocabulary": 400}
SHORT = [
    "train.epochs=null",
    "train.steps=2",
    "data.validation=4",
    "sampling.max_new_tokens=8",
    "train.schedule.warmup_steps=1",
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    directory = tmp_path_factory.mktemp("demo")
    return directory, run(directory, overrides=SHORT, sizes=SIZES)


def test_the_demo_leaves_two_exported_models_and_its_numbers(finished):
    directory, result = finished
    for name in (BASE, ASSISTANT):
        assert (directory / name / "export" / "config.json").is_file()
    assert json.loads((directory / "demo.json").read_text()) == result


def test_the_numbers_compare_both_models_in_every_category(finished):
    _, result = finished
    rows = {name.strip(): rates for name, rates in result["rates"].items()}
    assert set(rows) == {EXACT, STOPPED, *MAKERS}
    assert all(set(rates) == {BASE, ASSISTANT} for rates in rows.values())
    assert all(0 <= share <= 1 for rates in rows.values() for share in rates.values())


def test_the_seconds_of_the_phases_add_up(finished):
    _, result = finished
    seconds = dict(result["seconds"])
    whole = seconds.pop("all")
    assert sum(seconds.values()) <= whole + 1
