"""The campaign sees every fault that it is to count, and its artefacts follow from the seed."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from tests.campaigns.hostile import KINDS, HostileOutcome, read_results, summarize
from tests.campaigns.hostile_process import Ending, OutsideWatch
from tests.campaigns.hostile_values import hostile_value

SOUND = Ending(65, "tunesmith: error: a sentence\n", 0.2, 10, (), False)
PLANTED = {
    "opened outside": Ending(65, "x", 0.2, 0, (), True),
    "code, socket or process": Ending(65, "x", 0.2, 0, ("socket.connect ()",), False),
    "traceback": Ending(65, "Traceback (most recent call last)\nValueError", 0.2, 0, (), False),
    "slow": Ending(65, "x", 31.0, 0, (), False),
    "memory": Ending(65, "x", 0.2, 2 << 30, (), False),
    "control characters": Ending(65, "a \x1b]0;b", 0.2, 0, (), False),
    "exit code": Ending(1, "x", 0.2, 0, (), False),
    "no message": Ending(65, "\n", 0.2, 0, (), False),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_every_fault_is_seen(fault: str, tmp_path: Path) -> None:
    assert [*PLANTED[fault].faults(tmp_path, ())] == [fault]


def test_an_error_in_a_sentence_is_no_fault(tmp_path: Path) -> None:
    assert [*SOUND.faults(tmp_path, ())] == []
    usual = ("subprocess.Popen ('git',)",)
    assert [*Ending(0, "", 1.0, 0, usual, False).faults(tmp_path, usual)] == []
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "canary").touch()
    assert [*SOUND.faults(tmp_path, ())] == ["canary written"]


def test_a_file_that_is_opened_is_seen(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert not OutsideWatch(tmp_path).opened()
    watch = OutsideWatch(tmp_path)
    (tmp_path / "file").read_bytes()
    assert watch.opened()


def test_values_follow_from_the_seed() -> None:
    one, other = ([repr(hostile_value(random.Random(f"0/{n}"), {"a": 1})) for n in range(50)] for _ in range(2))
    assert one == other
    assert len({*one}) > 25


def test_the_summary_counts_by_kind_and_reads_its_own_lines(tmp_path: Path) -> None:
    line = {"number": 7, "kind": "template", "use": "chat", "what": "x", "code": 1, "seconds": 1.0, "megabytes": 9}
    (tmp_path / "results").write_text(json.dumps({**line, "line": "", "faults": ["traceback"]}) + "\n")
    found = read_results(tmp_path / "results")
    held = HostileOutcome(8, "template", "chat", "x", 65, 0.5, 3, "", ())
    summary = summarize([*found.values(), held])
    assert summary["kinds"] == {"template": "1/2"}
    assert summary["faults"] == {"template: traceback": 1}
    assert set(KINDS) >= {"template", "tokenizer", "config value", "weights index", "adapter", "run manifest"}
