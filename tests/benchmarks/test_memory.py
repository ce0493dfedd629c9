"""The benchmark of memory: what it writes and what it counts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

psutil = pytest.importorskip("psutil", reason="psutil is not here (pip install 'tunesmith[bench]')")

from benchmarks.memory import GENERATED, resident, write_records  # noqa: E402 -- it needs psutil


def test_a_large_file_has_the_size_and_no_two_records_alike(tmp_path: Path) -> None:
    count = write_records(tmp_path / "a.jsonl", 9_000_000)
    lines = (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(set(lines)) == count > GENERATED
    assert 9_000_000 <= (tmp_path / "a.jsonl").stat().st_size < 9_200_000


def test_memory_of_the_process_and_of_its_children_is_counted() -> None:
    _, *before = resident(psutil.Process())  # other tests of this process may have left children
    held = "import time; held = bytearray(50_000_000); print('ready', flush=True); time.sleep(30)"
    with subprocess.Popen([sys.executable, "-c", held], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        own, *others = resident(psutil.Process())
        child.kill()
    assert own > 50_000_000
    assert sum(size > 50_000_000 for size in others) == sum(size > 50_000_000 for size in before) + 1
