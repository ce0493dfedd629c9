"""Kill `tunesmith sample` with SIGKILL at random moments, restart it until it ends, and compare every byte.

    python -m tests.campaigns.sample_kills [--kills 20] [--seed 0]

Two models are sampled, so a kill may also come between their reports. The reports of every trial are compared with
those of a process that nobody killed; no other file may be left.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from tests.apps.sampled_models import write_causal
from tests.campaigns.killed_process import finishes
from tunesmith.apps.sample import SampleSettings, run

MODELS = ("oasst", "dolly")
DAY = datetime(2026, 3, 4, 5, 6, 7)


def sample(root: Path, output: Path) -> None:
    settings = SampleSettings("general", ("noprefix:nucleus9,k50,greedy",), limit=25, max_new_tokens=20, batch_size=4)
    run([str(root / name) for name in MODELS], settings, output, now=lambda: DAY)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()} if directory.exists() else {}


def campaign(root: Path, wanted: int, draw: random.Random) -> None:
    """Raises SystemExit if a report differs, or if fewer processes than wanted were killed."""
    for name in MODELS:
        write_causal(root / name, name)
    log, whole, output = root / "log.txt", root / "whole", root / "killed"
    began = time.monotonic()
    finishes(lambda: sample(root, whole), log, None)
    length, expected = time.monotonic() - began, contents(whole)
    kills = trials = continued = 0
    while kills < wanted:
        while not finishes(lambda: sample(root, output), log, draw.uniform(0.0, length)):
            kills += 1
            continued += any(name.endswith(".part") for name in contents(output))
        trials += 1
        if contents(output) != expected:
            raise SystemExit(f"trial {trials}, after {kills} kills: the reports in {output} differ")
        print(f"{kills} kills, {continued} in the middle of a report, {trials} trials identical", file=sys.stderr)
        shutil.rmtree(output)
    print(f"{trials}/{trials} calls ended with the bytes of one that was not killed ({kills} kills)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        campaign(Path(directory), options.kills, random.Random(options.seed))


if __name__ == "__main__":
    main()
