"""One damaged file is found; the campaign damages 2,500."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.campaigns.corruption import CorruptionTrial, prepare_world, run_trial
from tests.campaigns.damages import DAMAGES, damage


def test_damage_is_named_and_healed_or_refused(tmp_path: Path) -> None:
    world = prepare_world(tmp_path / "sft", "sft")
    export = CorruptionTrial("sft", "finished", "run/export/config.json", "cut", 3, restart=True)
    assert run_trial(world, export) == ("named by verify, same result", [])
    records = CorruptionTrial("sft", "stopped", "run/metrics.jsonl", "zero tail", 3, restart=True)
    assert run_trial(world, records) == ("named by verify, refused by train", [])


@pytest.mark.parametrize("kind", DAMAGES)
def test_every_kind_of_damage_changes_a_file(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    for seed in range(20):
        path.write_bytes(b"content")
        changed = damage(path, kind, [], random.Random(seed))
        assert bool(changed) == (not path.exists() or path.read_bytes() != b"content")


def test_a_swap_changes_two_files_and_no_equal_ones(tmp_path: Path) -> None:
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    for path, content in ((one, b"a"), (two, b"b"), (three, b"a")):
        path.write_bytes(content)
    assert damage(one, "swap", [two, three], random.Random(0)) == [one, two]
    assert [path.read_bytes() for path in (one, two, three)] == [b"b", b"a", b"a"]
    assert not damage(two, "swap", [three], random.Random(0))
