"""The benchmark of `tunesmith benchmark`: its data and what it compares."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.harness import compare_items, write_data
from tests.benchmark.small_tasks import write_lines, write_tasks
from tunesmith.benchmark.data_files import read_rows
from tunesmith.benchmark.results import ItemResult
from tunesmith.benchmark.suites import KNOWN_TASKS


def item(value: float, greedy: bool, right: float) -> dict[str, Any]:
    return asdict(ItemResult(0, "0", right, {"acc": right}, ([value, greedy],), 0))


def test_tasks_without_a_file_are_made_of_records_and_others_are_shortened(tmp_path: Path) -> None:
    source = write_tasks(tmp_path / "source")
    for name in ("boolq", "hellaswag"):
        (source / f"{name}.validation.jsonl").unlink()
    record = {"instruction": "Where?", "context": "It is there. " * 60, "response": "There", "category": "open_qa"}
    records = write_lines(tmp_path / "records.jsonl", [record] * 9)
    write_data(source, tmp_path / "data", records, 3)
    assert all(len(path.read_text().splitlines()) == 3 for path in (tmp_path / "data").iterdir())
    for name in ("boolq", "hellaswag"):
        rows = list(read_rows(tmp_path / "data" / f"{name}.validation.jsonl", KNOWN_TASKS[name].columns))
        assert len(json.dumps(rows)) > 100


def test_differences_beyond_the_last_bit_of_a_sum_are_found() -> None:
    same = compare_items([item(-1000.0, True, 1.0)], [item(-1000.0001, True, 1.0)])
    assert same["beyond_rounding"] < 1e-4 < same["largest_difference"] + 1e-5
    other = compare_items([item(-1.0, True, 1.0)], [item(-1.001, False, 0.0)])
    assert other["beyond_rounding"] > 9e-4
    assert (other["greedy_flags"], other["metrics"]) == (1, 1)
