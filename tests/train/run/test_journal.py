"""The journal in a manifest: it grows with every start, and a run of an earlier version gets one."""

from __future__ import annotations

import json
from pathlib import Path

from tunesmith.files import fingerprint, write_json
from tunesmith.train.run.journal import (
    ResolvedRecipe,
    RunJournal,
    RunResults,
    RunStart,
    begin_start,
    end_start,
    parse_journal,
)

RESOLVED = ResolvedRecipe({"seed": 5, "train": {"steps": 3}}, {"seed": "command line"})
START = RunStart("2026-01-02", ("tunesmith", "train"), 0, {"commit": None}, "3", "Linux", "cpu", {"torch": "1"}, {}, {})
RESULTS = RunResults(3, 0, {"metrics.jsonl": "00"}, {"step-000003": {"state.json": "11"}}, {})


def read(path: Path) -> RunJournal:
    content = json.loads(path.read_text())
    assert content.pop("seal") == fingerprint(content)
    return parse_journal(content, path)


def test_every_start_is_kept_and_results_only_until_the_next(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    write_json(path, {"data": {"content": "a"}})
    begin_start(path, START, RESOLVED)
    assert read(path) == RunJournal(RESOLVED, (START,))
    end_start(path, "2026-01-03", "stopped", RESULTS)
    (start,) = read(path).starts
    assert (start.ended, start.state, read(path).results) == ("2026-01-03", "stopped", RESULTS)
    begin_start(path, START, RESOLVED)
    assert read(path) == RunJournal(RESOLVED, (start, START))
    assert json.loads(path.read_text())["data"] == {"content": "a"}
