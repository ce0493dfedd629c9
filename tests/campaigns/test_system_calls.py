"""The library of the campaign counts the calls below its directories, and injects one fault into the chosen one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tests.campaigns.system_calls import Outcome, read_results
from tests.campaigns.system_calls_library import FAULTS, compile_library

SCRIPT = """
import ctypes, os, sys
one, fault, stays, number = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
library = ctypes.CDLL(None)
library.met_call.restype = ctypes.c_char_p
library.arm(one.encode(), b"", ctypes.c_long(number), fault, stays)

def attempt(call, *given):
    try:
        return call(*given)
    except OSError as error:
        return f"error {error.errno}"

attempt(os.mkdir, one.removesuffix("/run") + "/elsewhere")  # not below the directory, so not counted
found = [attempt(os.mkdir, one + "/new")]
descriptor = os.open(one + "/file", os.O_WRONLY | os.O_CREAT)
found += [attempt(os.write, descriptor, b"12345678"), attempt(os.fsync, descriptor), attempt(os.close, descriptor)]
found += [attempt(os.rename, one + "/file", one + "/other"), attempt(os.unlink, one + "/other")]
print(found, library.calls(), library.met_call().decode())
"""
"""Seven calls: mkdir, open, write, fsync, close, rename, unlink."""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("gcc") is None or not sys.platform.startswith("linux"):
        pytest.skip("the library needs gcc, and Linux")
    return compile_library(tmp_path_factory.mktemp("library"))


def output_of(library: Path, directory: Path, fault: str, number: int) -> subprocess.CompletedProcess[str]:
    (directory / "run").mkdir()
    what, stays = FAULTS[fault]
    words = [sys.executable, "-S", "-c", SCRIPT, str(directory / "run"), str(what), str(int(stays)), str(number)]
    environment = {**os.environ, "LD_PRELOAD": str(library)}
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("fault", "number", "expected"),
    [
        ("none", 0, "[None, 8, None, None, None, None] 7 "),
        ("short", 2, "[None, 4, None, None, None, None] 7 write"),
        ("ENOSPC", 2, "[None, 'error 28', None, None, None, None] 7 write"),
        ("EROFS", 0, "['error 30', 8, None, None, None, None] 7 mkdir"),
        ("EIO", 4, "[None, 8, None, 'error 5', None, None] 7 close"),
        ("EIO-stays", 5, "[None, 8, None, None, 'error 5', 'error 5'] 7 rename"),
    ],
)
def test_the_chosen_call_meets_the_fault(library: Path, fault: str, number: int, expected: str, tmp_path: Path) -> None:
    done = output_of(library, tmp_path, fault, number)
    assert (done.stdout, done.stderr, done.returncode) == (f"{expected}\n", "", 0)
    assert (tmp_path / "elsewhere").is_dir()


def test_a_kill_comes_before_the_call(library: Path, tmp_path: Path) -> None:
    assert output_of(library, tmp_path, "kill", 5).returncode == -signal.SIGKILL
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["file", "new"]


def test_a_trial_that_did_not_hold_is_done_again(tmp_path: Path) -> None:
    wrong, right = (Outcome("train", "EIO", 3, "fsync", 74, 9, wrong) for wrong in (("a traceback",), ()))
    other = replace(right, number=4, wrong=("it differs",))
    (tmp_path / "results").write_text("".join(json.dumps(asdict(each)) + "\n" for each in (wrong, other, right)))
    assert read_results(tmp_path / "results") == {("train", "EIO", 3): right}
    assert read_results(tmp_path / "none") == read_results(None) == {}
