"""Worker processes: the same result as without, little waiting, and clear words when one dies."""

from __future__ import annotations

import json
import multiprocessing
import os
import select
import signal
import sys
import threading
import time
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import pytest

from tests.data.small_runs import RECORDS, arrays, run, write
from tunesmith.data.dataset import workers
from tunesmith.data.dataset.rendering import RenderSettings, RowChunk, Work, load_renderer
from tunesmith.data.dataset.workers import become_worker
from tunesmith.data.readers.source_config import SourceConfig
from tunesmith.data.sources.rows import SourceRow
from tunesmith.errors import DataError, InternalError


@pytest.mark.usefixtures("small_chunks")
def test_processes_make_the_same_store_as_none(tokenizer: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", RECORDS)
    alone, together = (run(path, tokenizer, tmp_path / str(workers), workers=workers) for workers in (0, 2))
    assert arrays(alone) == arrays(together)
    assert alone.report == together.report


@pytest.mark.usefixtures("small_chunks")
def test_processes_find_the_same_faults_as_none(tokenizer: str, tmp_path: Path) -> None:
    lines = [
        json.dumps({**record, "response": 5} if index % 4 == 0 else record) for index, record in enumerate(RECORDS)
    ]
    lines = ["{" if index % 4 == 2 else line for index, line in enumerate(lines)]  # found earlier than the others
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(lines))
    messages = []
    for processes in (0, 2):
        with pytest.raises(DataError) as caught:
            run(path, tokenizer, tmp_path / "cache", workers=processes)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    first, second = messages[0].splitlines()[1:3]
    quarter = len(RECORDS) // 4
    for number, line in ((1, first), (3, second)):
        assert f"{path}:{number}: " in line
        assert f"(and in {quarter - 1:,} more, such as {path}:{number + 4})" in line


@pytest.mark.usefixtures("small_chunks")
def test_no_signal_can_interrupt_the_start_of_a_process(
    tokenizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signals run their handlers in the main thread, so processes are started in another one."""
    start, threads = SpawnProcess.start, list[threading.Thread]()

    def watched(process: SpawnProcess) -> None:
        threads.append(threading.current_thread())
        start(process)

    monkeypatch.setattr(SpawnProcess, "start", watched)
    run(write(tmp_path / "a.jsonl", RECORDS), tokenizer, tmp_path / "cache", workers=2)
    assert threads
    assert threading.main_thread() not in threads


@pytest.mark.usefixtures("small_chunks")
def test_a_process_that_dies_is_reported(tokenizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "become_worker", sys.exit)
    with pytest.raises(InternalError, match=r"a process that prepares data died; .*data.workers"):
        run(write(tmp_path / "a.jsonl", RECORDS), tokenizer, tmp_path / "cache", workers=2)
    assert not list((tmp_path / "cache").glob("*/store"))


def test_a_tokenizer_that_changes_meanwhile_is_noticed(tokenizer: str) -> None:
    with pytest.raises(DataError, match="the tokenizer changed"):
        workers._worker_renderer(RenderSettings(tokenizer, "dolly", 200), "another fingerprint")


@pytest.mark.usefixtures("small_chunks")
def test_progress_is_told_up_to_the_end(tokenizer: str, tmp_path: Path) -> None:
    told: list[tuple[int, int | None, str]] = []
    path = write(tmp_path / "a.jsonl", RECORDS)
    run(path, tokenizer, tmp_path / "cache", progress=lambda *given: told.append(given))
    assert len(told) > 5
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
    assert told[-1] == (1000, 1000, "data: 60 records")
    told.clear()
    run(path, tokenizer, tmp_path / "cache", progress=lambda *given: told.append(given))
    assert told == []


def test_few_chunks_wait_at_a_time(tokenizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "CHUNKS_IN_THREADS", 2)
    settings = RenderSettings(tokenizer, "dolly", 200)
    renderer = load_renderer(settings)
    work = Work(settings, renderer.tokenizer.fingerprint, (SourceConfig("data", "a.jsonl", "dolly"),))
    taken = []

    def chunks() -> Any:
        for number in range(30):
            taken.append(number)
            yield RowChunk(0, (SourceRow(f"a:{number}", RECORDS[number], 0.0),))

    for index, _ in enumerate(workers.render_all(work, renderer, chunks(), 2)):
        assert len(taken) <= index + 6


def test_a_worker_ends_when_the_process_that_started_it_is_killed() -> None:
    """What a worker holds open is closed when it ends, so nobody has to ask whether its number is still in use."""
    reading, writing = os.pipe()

    def work() -> None:
        become_worker()
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN, "Ctrl-C is for the first process"
        os.write(writing, b"working ")
        time.sleep(60.0)

    first = os.fork()
    if first == 0:
        multiprocessing.get_context("fork").Process(target=work).start()
        time.sleep(60.0)
    os.close(writing)
    assert os.read(reading, 8) == b"working "
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)
    assert select.select([reading], [], [], 20.0)[0], "the worker goes on"
    assert os.read(reading, 8) == b""
