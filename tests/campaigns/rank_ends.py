"""Kills one of two processes that train together at every stage of a run, and looks how the other one ends.

    python -m tests.campaigns.rank_ends [--only WORDS]

After each kill the other process ends within 30 seconds, with exit code 70, and the first cause is printed once. No
launcher ends it: the processes are started as srun starts them without `--kill-on-bad-exit`.
"""

from __future__ import annotations

import argparse
import os
import pkgutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tests.train.launched import Ended, run_launched
from tests.worlds import ppo_recipe, preference_recipe, small_recipe
from tunesmith.compose import train_recipe
from tunesmith.errors import InternalError
from tunesmith.recipe.load import LoadedRecipe

SECONDS = 30.0
"""Longest time from a kill until the other process has ended."""
SHORT = (
    "train.steps=3",
    "train.evaluate_every=2",
    "train.save_every=2",
    "evaluate.show=1",
    "evaluate.max_new_tokens=4",
)
RECIPES: Mapping[str, Callable[..., LoadedRecipe]] = {"sft": small_recipe, "dpo": preference_recipe, "ppo": ppo_recipe}
TIME = "killed"
"""The file with the time of the kill."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a process is killed.

    name: for the user.
    target: the function that it is about to call.
    call: the number of the call, from 1.
    recipe: a name in ``RECIPES``.
    ranks: the processes that come there.
    """

    name: str
    target: str
    call: int = 1
    recipe: str = "sft"
    ranks: tuple[int, ...] = (0, 1)


TRAIN, GROUP = "tunesmith.compose.train", "tunesmith.world.ProcessGroup"
PLACES = (
    Place("before the process group exists", "tunesmith.train.processes.distributed.init_process_group"),
    Place("the recipe is completed", f"{TRAIN}.with_chosen_format"),
    Place("the run directory is opened", f"{TRAIN}.open_run"),
    Place("data are prepared", "tunesmith.compose.preparation.prepare_data"),
    Place("the model is made", "tunesmith.compose.models.building.new_model"),
    Place("the self-test begins", "tunesmith.compose.models.families.self_test"),
    Place("the self-test ends", "tunesmith.compose.models.families.packed_policy"),
    Place("the first record is written", f"{TRAIN}.record_run", ranks=(0,)),
    Place("weights are divided", "tunesmith.compose.models.building.process_mesh"),
    Place("the optimizer is made", f"{TRAIN}.build_optimizer"),
    Place("the memory is checked", f"{TRAIN}.check_memory"),
    Place("gates are checked", f"{TRAIN}._check_gates"),
    Place("the first evaluation", "tunesmith.train.run.callbacks.EvaluationCallback.run"),
    Place("the first sum of a pass", "tunesmith.train.loop.accumulate_gradients"),
    Place("gradients of the second step are added", f"{GROUP}.sum_gradients", 2),
    Place("the second update", "tunesmith.train.optim.optimizers.AdamW.step", 2),
    Place("an evaluation in the run", "tunesmith.train.run.callbacks.EvaluationCallback.run", 2),
    Place("a save begins", "tunesmith.train.run.callbacks.Checkpointer.save"),
    Place("files of a checkpoint are written", "tunesmith.train.run.checkpoint.write_tensors"),
    Place("a checkpoint is completed", "tunesmith.train.run.checkpoint._complete", ranks=(0,)),
    Place("checkpoints are removed", "tunesmith.train.run.checkpoint.rotate"),
    Place("signals are compared", f"{GROUP}.agree"),
    Place("the export is written", f"{TRAIN}._export", ranks=(0,)),
    Place("the others wait for the export", f"{TRAIN}._relative", ranks=(1,)),
    Place("references are computed", "tunesmith.compose.models.reference_cache._computed", recipe="dpo"),
    Place("references are gathered", f"{GROUP}.gather_bytes", recipe="dpo"),
    Place("gates of references", "tunesmith.compose.methods.dpo.reference_gates", recipe="dpo"),
    Place("replies are sampled", "tunesmith.train.rollout.generator.sample_replies", recipe="ppo"),
    Place("replies are scored", "tunesmith.train.rollout.generator.RolloutGenerator.score", recipe="ppo"),
    Place("rollouts are saved", "tunesmith.train.rollout.steps.save_rollouts", recipe="ppo", ranks=(0,)),
)


def die_at_call(number: int, call: Callable[..., Any], directory: Path) -> Callable[..., Any]:
    """A function that ends this process at its n-th call."""
    left = iter(range(number - 1, -1, -1))

    def replacement(*positional: Any, **named: Any) -> Any:
        if next(left) == 0:
            (directory / TIME).write_text(repr(time.monotonic()))
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*positional, **named)

    return replacement


def train_until_killed(rank: int, directory: Path, *, place: Place, victim: int) -> None:
    """Train in one of several processes; the victim is killed at the place."""
    loaded = recipe_of(place, directory)
    if rank != victim:
        train_recipe(loaded)
        return
    owner, _, name = place.target.rpartition(".")
    call = pkgutil.resolve_name(place.target)
    with patch.object(pkgutil.resolve_name(owner), name, die_at_call(place.call, call, directory)):
        train_recipe(loaded)


def recipe_of(place: Place, directory: Path) -> LoadedRecipe:
    words = [*SHORT, f"run.directory={directory / 'run'}", f"data.cache={directory / 'cache'}"]
    return RECIPES[place.recipe](directory.parent / place.recipe, words)


def find_fault(place: Place, victim: int, root: Path) -> tuple[str | None, float]:
    """(what is wrong with how the processes have ended, or None; seconds from the kill to the end of the other one)."""
    directory = root / f"{PLACES.index(place)}-{victim}"
    recipe_of(place, directory)  # writes its files
    ended = run_launched(partial(train_until_killed, place=place, victim=victim), 2, directory)
    if not (directory / TIME).is_file():
        return f"no process was killed: {[each.text[-300:] for each in ended]}", 0.0
    seconds = ended[1 - victim].at - float((directory / TIME).read_text())
    return next(_faults(ended, victim, seconds), None), seconds


def _faults(ended: Sequence[Ended], victim: int, seconds: float) -> Iterator[str]:
    other, text = ended[1 - victim], "".join(each.text for each in ended)
    if seconds > SECONDS:
        yield f"the other process ended after {seconds:.0f} seconds"
    if other.code != InternalError.exit_code:
        yield f"the other process ended with {other.code}: {other.text[-300:]}"
    causes = [line for line in text.splitlines() if "error: " in line.lower()]
    if len(causes) != 1 or f"rank {victim} of 2: it has ended without a message" not in causes[0]:
        yield f"what was printed: {causes}"
    if "Traceback" in text:
        yield f"a traceback: {text[-500:]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="words in the name of a place")
    for place in PLACES:
        pkgutil.resolve_name(place.target)
    chosen = [place for place in PLACES if parser.parse_args().only in place.name]
    kills, faults, slowest = 0, 0, 0.0
    with tempfile.TemporaryDirectory() as root:
        for place in chosen:
            for victim in place.ranks:
                fault, seconds = find_fault(place, victim, Path(root))
                kills, faults, slowest = kills + 1, faults + (fault is not None), max(slowest, seconds)
                print(f"{place.name}, rank {victim}: {fault or f'ended after {seconds:.1f} s'}", flush=True)
    print(f"{len(chosen)} places, {kills} kills: {kills - faults} ended as they should, the slowest in {slowest:.1f} s")
    sys.exit(faults > 0)


if __name__ == "__main__":
    main()
