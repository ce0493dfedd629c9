"""Kills one of several processes that train together at random moments, and starts all again until the run ends.

    python -m tests.campaigns.rank_restarts [--methods sft dpo ppo] [--sizes 2 3] [--runs 5] [--seed 0]

The run then has the bits of one of the same number of processes that was not disturbed: metrics, consumed examples,
checkpoints and export. `--runs` is for each method and size. Weights are divided (zero3 with SFT and DPO, zero2 with
PPO).
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from tests.runs import digests
from tests.train.launched import run_launched
from tests.worlds import ppo_recipe, preference_recipe, small_recipe
from tunesmith.compose import train_recipe
from tunesmith.errors import InternalError
from tunesmith.recipe.load import LoadedRecipe

RECIPES: Mapping[str, tuple[Callable[..., LoadedRecipe], str]] = {
    "sft": (small_recipe, "zero3"),
    "dpo": (preference_recipe, "zero3"),
    "ppo": (ppo_recipe, "zero2"),
}
"""Method -> its recipe, from the directory of its small world and overrides; and how weights are divided."""
SHORT = ("train.steps=6", "train.evaluate_every=3", "train.save_every=2", "train.keep=2")
ENDED_WITH_THE_OTHERS = (InternalError.exit_code, -signal.SIGKILL)


def train(rank: int, directory: Path, *, method: str, run: Path, victim: int, patience: float | None) -> None:
    """Train in one of several processes; the victim is killed after ``patience`` seconds (None: never)."""
    if rank == victim and patience is not None:
        killer = threading.Timer(patience, os.kill, (os.getpid(), signal.SIGKILL))
        killer.daemon = True
        killer.start()
    recipe, shard = RECIPES[method]
    train_recipe(recipe(directory.parent / method, [*SHORT, f"train.shard={shard}", f"run.directory={run}"]))


def attempt(root: Path, method: str, size: int, run: Path, victim: int, patience: float | None) -> bool:
    """Whether the run ended; False if the victim was killed before. Raises SystemExit if it ended in another way."""
    target = partial(train, method=method, run=run, victim=victim, patience=patience)
    ended = run_launched(target, size, root / f"output-{time.monotonic_ns()}")
    codes = [each.code for each in ended]
    if not any(codes):
        return True
    if codes[victim] == -signal.SIGKILL and all(code in (0, *ENDED_WITH_THE_OTHERS) for code in codes):
        return False
    raise SystemExit(f"{method}, {size} processes, rank {victim} killed: exit codes {codes}: {ended[0].text[-2000:]}")


def campaign(root: Path, method: str, size: int, runs: int, draw: random.Random) -> tuple[int, int]:
    """(runs that ended with the expected bits, kills)."""
    RECIPES[method][0](root / method)  # writes the files that all attempts share
    began = time.monotonic()
    if not attempt(root, method, size, root / f"whole-{method}-{size}", 0, None):
        raise SystemExit("a run that nobody killed did not end")
    length = time.monotonic() - began
    expected = digests(root / f"whole-{method}-{size}")
    identical = kills = 0
    for number in range(runs):
        run = root / f"{method}-{size}-{number}"
        while attempt(root, method, size, run, draw.randrange(size), draw.uniform(0.0, length)):
            length *= 0.9  # every run is killed at least once, and the run that was measured was slower
            shutil.rmtree(run)
        kills += 1
        while not attempt(root, method, size, run, draw.randrange(size), draw.uniform(0.1, 2.0) * length):
            kills += 1
        identical += digests(run) == expected
        done = f"run {number + 1}/{runs}, {kills} kills, {identical} identical"
        print(f"{method}, {size} processes: {done}", file=sys.stderr, flush=True)
    return identical, kills


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", choices=RECIPES, nargs="+", default=list(RECIPES))
    parser.add_argument("--sizes", type=int, nargs="+", default=[2, 3])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw, found = random.Random(options.seed), list[tuple[int, int]]()
    with tempfile.TemporaryDirectory() as directory:
        for method in options.methods:
            for size in options.sizes:
                found.append(campaign(Path(directory), method, size, options.runs, draw))
    runs = options.runs * len(found)
    identical, kills = (sum(numbers) for numbers in zip(*found, strict=True))
    print(f"{identical}/{runs} runs of several processes that were killed ended with the same bits ({kills} kills)")
    if identical != runs:
        raise SystemExit("runs that were killed ended differently")


if __name__ == "__main__":
    main()
