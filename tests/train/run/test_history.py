"""The records of a run, read while they grow; damaged lines are left out, and texts of later steps are removed."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tunesmith.train.run.history import SPEED, RecordTail, RunHistory, open_shown, shown_record
from tunesmith.train.run.selection import SelectionRule
from tunesmith.train.run.shown import ShownText

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(-(10**400)) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def lines(*records: dict[str, Any]) -> str:
    return "".join(json.dumps(each) + "\n" for each in records)


def test_a_growing_file_is_read_once_and_only_in_complete_lines(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail = RecordTail(path)
    assert list(tail.read()) == []
    path.write_text(lines({"step": 1}) + '{"step": 2')
    assert [each["step"] for each in tail.read()] == [1]
    with path.open("a") as file:
        file.write(', "loss": 1}\n[]\nno record\n{"loss": 1}\n' + lines({"step": 3}))
    assert [each["step"] for each in tail.read()] == [2, 3]
    assert list(tail.read()) == []


def test_reading_in_parts_gives_what_reading_at_once_gives(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for directory in (whole, parts):
        directory.mkdir()
    records = [{"step": step, "loss": 1 / step, "epoch": 0} for step in range(1, 2500)]
    records[1000:1000] = [{"step": 1000, "checkpoint": True, "validation": {"all": {"loss": 0.5}}}]
    (whole / "metrics.jsonl").write_text(lines(*records))
    history = RunHistory.of(parts, SelectionRule())
    for start in range(0, len(records), 7):
        with (parts / "metrics.jsonl").open("a") as file:
            file.write(lines(*records[start : start + 7]))
        history.update()
    expected = RunHistory.of(whole, SelectionRule())
    expected.update()
    assert (history.curves, history.evaluations, history.last) == (
        expected.curves,
        expected.evaluations,
        expected.last,
    )
    assert history.selection.best == expected.selection.best == 1000


def test_the_speed_is_that_of_the_timing(tmp_path: Path) -> None:
    (tmp_path / "timing.jsonl").write_text(lines({"step": 1, "seconds": 0.5, "tokens": 100}, {"step": 2, "tokens": 3}))
    history = RunHistory.of(tmp_path, SelectionRule())
    history.update()
    assert {number: bucket.mean for number, bucket in history.curves.metrics[SPEED].items()} == {0: 200.0}


def test_integers_that_no_float_can_hold_are_not_finite(tmp_path: Path) -> None:
    huge = 10**400
    (tmp_path / "timing.jsonl").write_text(lines({"step": 1, "seconds": 0.5, "tokens": huge}))
    records = [{"step": 1, "loss": huge}, {"step": huge}, {"step": 2, "validation": {"all": {"loss": -huge}}}]
    (tmp_path / "metrics.jsonl").write_text(lines(*records))
    history = RunHistory.of(tmp_path, SelectionRule())
    history.update()
    assert (history.curves.metrics, history.last["loss"]) == ({}, math.inf)
    assert [each.metrics for each in history.evaluations] == [{"all": {"loss": -math.inf}}]


@given(values=st.lists(JSON, max_size=6))
def test_any_records_are_read_without_an_error(values: list[Any], tmp_path_factory: Any) -> None:
    directory = tmp_path_factory.mktemp("run")
    records = [{"step": 1, "validation": value, "texts": value, "seconds": value, "tokens": value} for value in values]
    records += [
        {"step": 2, "validation": {"all": {"loss": value}}, "seconds": 0.1, "tokens": value} for value in values
    ]
    for name in ("metrics", "timing", "shown"):
        text = "".join(json.dumps(each) + "\n" for each in (*values, *records))
        (directory / f"{name}.jsonl").write_text(text)
    history = RunHistory.of(directory, SelectionRule())
    history.update()
    assert len(history.evaluations) <= 2


def test_texts_of_steps_that_are_done_again_are_removed(tmp_path: Path) -> None:
    path = tmp_path / "shown.jsonl"
    with open_shown(path, 0) as file:
        for step in (0, 10, 20):
            file.write(shown_record(step, [ShownText("reply", f"after {step}")]))
    with path.open("a") as file:
        file.write("damaged\n")
    whole = path.read_bytes().splitlines(keepends=True)
    with open_shown(path, 15) as file:
        file.write(shown_record(20, [ShownText("reply", "after 20")]))
    assert path.read_bytes().splitlines(keepends=True) == whole[:3]
    with open_shown(path, 0):
        assert path.read_bytes() == b"", "a run without a checkpoint begins again"
