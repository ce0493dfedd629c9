"""Kill `tunesmith benchmark` with SIGKILL at random moments, call it again until it ends, and compare every byte.

    python -m tests.campaigns.benchmark_sigkill [--runs 20] [--seed 0]

The tasks score answers (the seven of dolly) and generate replies (gsm8k). Each attempt is a forked child, so a trial
costs no imports.
"""

from __future__ import annotations

import argparse
import io
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmark.small_tasks import write_lines, write_model, write_tasks
from tests.campaigns.killed_process import finishes
from tunesmith.apps.benchmark import BenchmarkOptions, run
from tunesmith.benchmark import scoring

COMPARED = ("benchmark.json", "benchmark.md", "benchmark.csv", "items-1.jsonl")


def attempt(root: Path, output: Path, patience: float | None) -> bool:
    """Call the command in a process that is killed after ``patience`` seconds (None: never); whether it ended."""
    options = BenchmarkOptions(("dolly", "gsm8k"), str(root / "data"), output, shots=0)
    return finishes(lambda: run([str(root / "model")], options, io.StringIO()), root / "log.txt", patience)


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
    print(f"{identical}/{options.runs} calls ended with the bytes of one that was not killed ({kills} kills)")
    if identical != options.runs:
        raise SystemExit("calls that were killed ended differently")


if __name__ == "__main__":
    main()
