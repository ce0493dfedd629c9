"""Kill `tunesmith benchmark` with SIGKILL at random moments, call it again until it ends, and compare every byte.

    python -m tests.campaigns.benchmark_sigkill [--runs 20] [--seed 0]

The tasks score answers (the seven of dolly) and generate replies (gsm8k). Each attempt is a forked child, so a trial
costs no imports.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

import torch

from tests.benchmark.small_tasks import write_lines, write_model, write_tasks
from tunesmith.apps.benchmark import BenchmarkOptions, run
from tunesmith.benchmark import scoring

COMPARED = ("benchmark.json", "benchmark.md", "benchmark.csv", "items-1.jsonl")


def attempt(root: Path, output: Path, patience: float | None) -> bool:
    """Call the command in a child process that is killed after ``patience`` seconds (None: never).

    Returns whether it ended.
    """
    child = os.fork()
    if child == 0:
        code = 1
        try:
            log = os.open(root / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            torch.set_num_threads(1)
            options = BenchmarkOptions(("dolly", "gsm8k"), str(root / "data"), output, shots=0)
            run([str(root / "model")], options, io.StringIO())
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    deadline = None if patience is None else time.monotonic() + patience
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            if os.waitstatus_to_exitcode(status) != 0:
                raise SystemExit("a call failed by itself:\n" + (root / "log.txt").read_text()[-3000:])
            return True
        if deadline is not None and time.monotonic() >= deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return False
        time.sleep(0.002)


def contents(output: Path) -> dict[str, bytes]:
    return {name: (output / name).read_bytes() for name in COMPARED}


def campaign(root: Path, runs: int, draw: random.Random) -> tuple[int, int]:
    """(kills, calls that ended with the same bytes)."""
    write_tasks(root / "data", items=20)
    rows = [{"question": f"What is {n} and {n}?", "answer": f"It is\n#### {2 * n}"} for n in range(8)]
    write_lines(root / "data" / "gsm8k.test.jsonl", rows)
    write_model(root / "model", positions=1024)
    scoring.BATCH_TOKENS = 128  # many batches, so that a kill is in the middle of them
    began = time.monotonic()
    assert attempt(root, root / "whole", None)
    length = time.monotonic() - began
    expected = contents(root / "whole")
    kills = identical = 0
    for number in range(runs):
        output = root / f"run-{number}"
        while attempt(root, output, draw.uniform(0.0, length)):  # every call is killed at least once
            length *= 0.9
            shutil.rmtree(output)
        kills += 1
        while not attempt(root, output, draw.uniform(0.0, 2.0 * length)):
            kills += 1
        identical += contents(output) == expected
        print(f"call {number + 1} of {runs}, {kills} kills, {identical} identical", file=sys.stderr)
    return kills, identical


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        kills, identical = campaign(Path(directory), options.runs, random.Random(options.seed))
    print(f"{options.runs} calls, {kills} kills, {identical} ended with the same bytes")
    if identical != options.runs:
        raise SystemExit("calls that were killed ended differently")


if __name__ == "__main__":
    main()
