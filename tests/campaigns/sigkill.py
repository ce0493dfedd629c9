"""Kill training with SIGKILL at random moments, restart it until it ends, and compare every bit with a whole run.

    python -m tests.campaigns.sigkill [--methods sft reward dpo ppo] [--runs 50] [--seed 0] [--json FILE]

A run is killed anywhere: while data are prepared (the cache is removed first), while the model is made, in steps,
evaluations, saves, rotations and the export; with dpo also while the reference log-probabilities are computed, with ppo
while replies are sampled. Each attempt is a forked child, so a trial costs no imports. `--runs` is for each method, and
divided among its architectures.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.campaigns.killed_process import finishes
from tests.reward_worlds import judge_recipe
from tests.runs import digests
from tests.worlds import ppo_recipe, preference_recipe, small_recipe
from tunesmith.compose import train_recipe
from tunesmith.recipe.load import LoadedRecipe

METHODS: Mapping[str, Callable[..., LoadedRecipe]] = {
    "sft": small_recipe,
    "reward": judge_recipe,
    "dpo": preference_recipe,
    "ppo": ppo_recipe,
}
"""Method -> its recipe, from the directory of its small world and overrides."""
ARCHITECTURES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("sft", "dpo"), ("gpt_neox", "llama", "t5")),
    **dict.fromkeys(("reward", "ppo"), ("gpt_neox", "llama")),
}


def attempt(root: Path, run: Path, method: str, patience: float | None) -> bool:
    """Train in a child process that is killed after ``patience`` seconds (None: never); returns whether it ended."""
    return finishes(lambda: train_recipe(METHODS[method](root, [f"run.directory={run}"])), root / "log.txt", patience)


def campaign(root: Path, architecture: str, method: str, runs: int, draw: random.Random) -> dict[str, int]:
    """Returns the number of runs, of kills, and of runs that ended identical."""
    METHODS[method](root, architecture=architecture)
    began = time.monotonic()
    assert attempt(root, root / "never-killed", method, None)
    length = time.monotonic() - began
    expected = digests(root / "never-killed")
    identical = kills = 0
    for number in range(runs):
        run = root / f"run-{number}"
        shutil.rmtree(root / "cache")
        while attempt(root, run, method, draw.uniform(0.0, length)):  # every run is killed at least once
            length *= 0.9  # the run that was measured was slower than this one
            shutil.rmtree(run)
            shutil.rmtree(root / "cache")
        kills += 1
        while not attempt(root, run, method, draw.uniform(0.0, 2.0 * length)):
            kills += 1
        identical += digests(run) == expected
        print(
            f"{method}, {architecture}: run {number + 1}/{runs}, {kills} kills, {identical} identical", file=sys.stderr
        )
        shutil.rmtree(run)
    return {"runs": runs, "kills": kills, "identical": identical}


def share(runs: int, parts: int) -> list[int]:
    """Runs for each of some parts."""
    return [runs // parts + (index < runs % parts) for index in range(parts)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", choices=METHODS, nargs="+", default=list(METHODS))
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    found: dict[str, dict[str, int]] = {}
    with tempfile.TemporaryDirectory() as directory:
        for method in options.methods:
            architectures = ARCHITECTURES[method]
            for architecture, runs in zip(architectures, share(options.runs, len(architectures)), strict=True):
                name = f"{method}-{architecture}"
                found[name] = campaign(Path(directory) / name, architecture, method, runs, draw)
    text = json.dumps(found, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")
    runs, kills, identical = (sum(each[key] for each in found.values()) for key in ("runs", "kills", "identical"))
    print(f"{identical}/{runs} runs that were killed at random moments ended with the same bits ({kills} kills)")
    if identical != runs:
        raise SystemExit("runs that were killed ended differently")


if __name__ == "__main__":
    main()
