"""Small runs for campaigns that plant faults: their commands, what they become without a fault, and copies of them."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch

from tests.campaigns.forked_command import EndedCommand, run_command
from tests.campaigns.system_calls import contents, differences
from tests.reward_worlds import write_rankings
from tests.worlds import ppo_recipe, write_preferences, write_world
from tunesmith.recipe.load import dump

COMMON = (
    *("train.steps=3", "train.save_every=1", "train.keep=3", "train.evaluate_every=2", "text.max_length=100"),
    *("evaluate.show=0", "evaluate.replies=0", "train.schedule={kind: constant}"),
)


def _write_ppo(root: Path) -> Path:
    path = root / "ppo.yaml"
    keys = ["objective.prompts_per_iteration=4", "objective.max_new_tokens=6", "objective.value_warmup_steps=1"]
    path.write_text(dump(ppo_recipe(root, keys).recipe))
    return path


WORLDS: Mapping[str, tuple[Callable[[Path], Path], tuple[str, ...]]] = {
    "sft": (write_world, ("data.validation=4",)),
    "t5": (lambda root: write_world(root, architecture="t5"), ("data.validation=4",)),
    "dpo": (write_preferences, ("data.validation=4",)),
    "reward": (write_rankings, ("data.validation=6",)),
    "ppo": (_write_ppo, ("data.validation=4",)),
}
"""Kind of run -> what writes its files and returns its recipe, and single values of the recipe."""


class FaultWorld:
    """A run and its cache at fixed places, so that a run with a fault can be compared with one without.

    root: a directory that does not exist.
    method: a key of ``WORLDS``.
    keys: further single values of the recipe.
    """

    def __init__(self, root: Path, method: str, keys: Sequence[str] = ()) -> None:
        write, own = WORLDS[method]
        root.mkdir(parents=True)
        self.root, self.run, self.cache, self.log = root, root / "run", root / "cache", root / "log.txt"
        self.recipe, self.keys = write(root), [*COMMON, *own, *keys]
        self._expected: dict[tuple[str, ...], dict[str, str]] = {}

    def words(self, *keys: str) -> list[str]:
        """The words of the command that trains the run."""
        return ["train", str(self.recipe), *self.keys, *keys]

    def train(self, *keys: str, prepare: Callable[[], object] | None = None) -> EndedCommand:
        """Train the run, or continue it. prepare: called in the child before."""
        return run_command(self.words(*keys), self.log, prepare)

    def verify(self) -> EndedCommand:
        return run_command(["verify", str(self.run)], self.log)

    def remove(self, *, cache: bool = False) -> None:
        """Remove the run. cache: as well."""
        for path in (self.run, *([self.cache] if cache else [])):
            shutil.rmtree(path, ignore_errors=True)

    def keep(self, name: str) -> None:
        """Keep the present run and cache under a name."""
        for path in (self.run, self.cache):
            shutil.copytree(path, self.root / "kept" / name / path.name)

    def restore(self, name: str) -> None:
        """Replace run and cache by those that were kept."""
        self.remove(cache=True)
        for path in (self.run, self.cache):
            shutil.copytree(self.root / "kept" / name / path.name, path)

    def expected(self, *keys: str) -> dict[str, str]:
        """File -> SHA-256 of a run without a fault; the present run is removed if it has to be trained first."""
        if keys not in self._expected:
            self.remove()
            ended = self.train(*keys)
            assert ended.code == 0, ended.text
            self._expected[keys] = contents(self.run)
            self.remove()
        return self._expected[keys]

    def differences(self, *keys: str) -> str:
        """How the files of the present run differ from those of a run without a fault; empty if they do not."""
        found = contents(self.run)
        return differences(self._expected[keys], found, "")


def find_not_finite_files(directory: Path) -> list[str]:
    """The names of all tensor files below a directory in which a number is not finite."""
    return [
        path.relative_to(directory).as_posix()
        for path in sorted(directory.rglob("*.safetensors"))
        if any(
            not bool(tensor.isfinite().all())
            for tensor in safetensors.torch.load_file(path).values()
            if tensor.is_floating_point()
        )
    ]


def campaign_parser(description: str | None, trials: int) -> argparse.ArgumentParser:
    """The options of every campaign. trials: how many there are by default."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=trials)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="the figures, and every trial that does not hold")
    return parser


def report_trial(number: int, count: int, name: str, wrong: Sequence[str]) -> None:
    """Print a trial that does not hold, and the progress at every 20th."""
    for each in wrong:
        print(f"{name}: {each}", file=sys.stderr, flush=True)
    if (number + 1) % 20 == 0 or number + 1 == count:
        print(f"{number + 1}/{count}", file=sys.stderr, flush=True)


def finish(
    what: str, figures: Mapping[str, Any], failed: Sequence[Mapping[str, Any]], count: int, path: Path | None
) -> None:
    """Print the figures and, last, how many trials hold. what: words after that. Raises SystemExit if some do not."""
    text = json.dumps({**figures, "failed": list(failed)}, indent=2)
    print(text)
    if path is not None:
        path.write_text(text + "\n")
    print(f"{count - len(failed):,}/{count:,} {what}", flush=True)
    if failed:
        raise SystemExit("some trials do not hold")
