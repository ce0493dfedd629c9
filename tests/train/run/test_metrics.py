"""Records are complete lines, survive a kill, and are truncated to the length in a checkpoint."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import resource
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.errors import StorageError
from tunesmith.train.run.metrics import JsonLines, jsonable, read_records

FORK = multiprocessing.get_context("fork")


def record(step: int) -> dict[str, Any]:
    return {"step": step, "loss": 1.0 / (step + 3), "examples": list(range(step))}


def test_a_run_stopped_and_resumed_writes_the_bytes_of_one_never_stopped(tmp_path: Path) -> None:
    with JsonLines(tmp_path / "whole.jsonl") as whole:
        for step in range(30):
            whole.write(record(step))
    for stop in range(30):
        path = tmp_path / "resumed.jsonl"
        path.unlink(missing_ok=True)
        with JsonLines(path) as first:
            for step in range(stop):
                first.write(record(step))
            kept = first.sync()
            assert kept == first.offset() == path.stat().st_size
            for step in range(stop, 30, 2):  # written after the checkpoint, and lost with the process
                first.write(record(step))
        with JsonLines(path) as second:
            second.truncate(kept)
            assert second.offset() == kept
            for step in range(stop, 30):
                second.write(record(step))
        assert path.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_numbers_that_are_not_finite_are_written_as_words_and_the_line_is_json(tmp_path: Path) -> None:
    with JsonLines(tmp_path / "m.jsonl") as lines:
        lines.write({"loss": float("nan"), "nested": {"up": float("inf")}, "list": [float("-inf"), 1.5, True, None]})

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    found = json.loads((tmp_path / "m.jsonl").read_text(), parse_constant=refuse)
    assert found == {"loss": "NaN", "nested": {"up": "Infinity"}, "list": ["-Infinity", 1.5, True, None]}


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats(allow_nan=False) | st.text() | st.integers(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    )
)
def test_every_value_is_one_line_and_comes_back(value: Any) -> None:
    text = json.dumps(jsonable({"value": value}), allow_nan=False)
    assert len(text.splitlines()) == 1
    assert jsonable(json.loads(text)) == jsonable({"value": value})


def test_a_line_without_its_end_is_cut_off_on_opening(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2}\n{"st')
    with JsonLines(path) as lines:
        assert lines.offset() == 24
        lines.write({"step": 3})
    assert path.read_bytes() == b'{"step": 1}\n{"step": 2}\n{"step": 3}\n'
    path.write_bytes(b"x" * 200_000)  # longer than a block, and no line at all
    with JsonLines(path) as lines:
        assert lines.offset() == 0
    long = b"y" * 100_000 + b"\n"
    path.write_bytes(long + b"z" * 150_000)
    with JsonLines(path) as lines:
        assert lines.offset() == len(long)


@pytest.mark.parametrize("offset", [5, 13, 100, 10**6])
def test_a_position_that_the_file_does_not_have_is_refused(tmp_path: Path, offset: int) -> None:
    path = tmp_path / "m.jsonl"
    with JsonLines(path) as lines:
        lines.write({"step": 1})
        lines.write({"step": 2})
        before = path.read_bytes()
        with pytest.raises(StorageError, match=rf"expects {offset} bytes of complete lines, the file has 24"):
            lines.truncate(offset)
        assert path.read_bytes() == before
        lines.truncate(12)
        lines.truncate(0)
    assert path.read_bytes() == b""


def test_a_killed_process_loses_no_record_that_was_written(tmp_path: Path) -> None:
    def work() -> None:
        lines = JsonLines(tmp_path / "m.jsonl")
        for step in range(10):
            lines.write(record(step))
        os.kill(os.getpid(), signal.SIGKILL)

    process = FORK.Process(target=work)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    found = [json.loads(line)["step"] for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    assert found == list(range(10))


def test_a_full_disk_is_a_storage_error_and_what_is_there_stays_readable(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        lines = JsonLines(path)
        while lines.offset() < 800:
            lines.write({"step": 1})
        with pytest.raises(StorageError, match="File too large"):
            lines.write({"text": "x" * 300})
        os._exit(74)

    process = FORK.Process(target=work)
    process.start()
    process.join()
    assert process.exitcode == 74
    with JsonLines(path) as lines:
        assert lines.offset() > 0
    assert set(path.read_text().splitlines()) == {'{"step": 1}'}


def test_a_path_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        JsonLines(tmp_path / "file" / "m.jsonl")
    with pytest.raises(StorageError):
        JsonLines(tmp_path)


def test_records_are_read_back_while_the_file_grows(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with JsonLines(path) as lines:
        for step in range(3):
            lines.write({"step": step, "loss": 0.1 * step})
        with path.open("a") as file:
            file.write('{"step": 3, "lo')  # just being written
        assert list(read_records(path)) == [{"step": step, "loss": 0.1 * step} for step in range(3)]


def test_a_line_that_is_no_record_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\nstep 2\n')
    with pytest.raises(StorageError, match=r"metrics\.jsonl:2: not a record"):
        list(read_records(path))


def test_every_changed_byte_before_a_checkpoint_is_seen_and_a_torn_tail_is_not_an_error(tmp_path: Path) -> None:
    """Every byte once, with another bit each time: digits, letters, quotes, braces, spaces and line ends."""
    path = tmp_path / "m.jsonl"
    with JsonLines(path) as lines:
        for step in range(12):
            lines.write({"step": step, "kl": -1e-3 / (step + 1), "examples": [step, 5], "name": "é"})
        kept, digest = lines.sync(), lines.digest()
    content = path.read_bytes()
    changed = 0
    for place in range(kept):
        damaged = bytearray(content)
        damaged[place] ^= 1 << (place % 8)
        path.write_bytes(damaged)
        with JsonLines(path) as lines, pytest.raises(StorageError, match="restore the file from a copy"):
            lines.check(kept, digest)
        changed += 1
    assert changed == len(content) > 500
    for tail in (b"", b'{"st', b'{"step": 12}\n', b"\x00" * 100):
        path.write_bytes(content + tail)
        with JsonLines(path) as lines:
            lines.check(kept, digest)
            lines.truncate(kept)
            assert lines.digest() == digest
        assert path.read_bytes() == content


def test_an_error_of_closing_is_a_storage_error_and_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Network file systems report only at the end that something was not written."""
    close = os.close

    def fail(descriptor: int) -> None:
        close(descriptor)
        raise OSError(errno.EIO, "Input/output error")

    lines, others = JsonLines(tmp_path / "m.jsonl"), JsonLines(tmp_path / "m.jsonl")
    with monkeypatch.context() as broken:
        broken.setattr(os, "close", fail)
        with pytest.raises(StorageError, match="Input/output error"):
            lines.close()
        lines.close()
        with pytest.raises(ZeroDivisionError), others:
            raise ZeroDivisionError
