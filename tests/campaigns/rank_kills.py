"""Kills every process of a sharded run at every call by which it changes the file system while a checkpoint is saved.

    python -m tests.campaigns.rank_kills [--sizes 2 3]

After each kill the newest checkpoint is whole and has the bits of its step, and the next one that all processes save
has the bytes of one that was never disturbed.
"""

from __future__ import annotations

import argparse
import tempfile
from itertools import count
from pathlib import Path

from tests.train.run.sharded_kills import assert_survives, save_first_steps


def kill_everywhere(size: int, root: Path) -> int:
    """Kill each of ``size`` processes at each of its calls; returns the number of kills."""
    kills = 0
    save_first_steps(root, size)
    for victim in range(size):
        for number in count():
            with tempfile.TemporaryDirectory(dir=root) as scratch:
                if not assert_survives(root, size, victim, number, Path(scratch)):
                    break
            kills += 1
        print(f"{size} processes, process {victim}: killed at {number} places, all checkpoints are whole", flush=True)
    return kills


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[2, 3])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        kills = sum(kill_everywhere(size, Path(root) / str(size)) for size in arguments.sizes)
    print(f"{kills} kills, no checkpoint was damaged or lost")


if __name__ == "__main__":
    main()
