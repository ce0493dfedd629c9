"""Damage every file of runs and caches: it is named, healed or harmless, and never trained on.

    python -m tests.campaigns.corruption [--trials 2500] [--seed 0] [--json FILE]

Runs of SFT, DPO and PPO, finished or stopped after a step, with their token stores and references. One file gets random
bits, is cut, has zeros at its end, is longer, empty, absent, or swapped with another one of its kind. A trial holds if
`tunesmith verify` and `tunesmith train` end without a traceback, with documented exit codes, and

- `train` refuses with a message that names the file or its directory; or
- `train` ends with 0, and the result has the same bits as without damage: export, records, shown texts and the newest
  checkpoint, but for files that `verify` names, and for records that `train` warns of.

`train` is run on every case that `verify` does not name, and on every third of the others.
"""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from tests.campaigns.damages import KINDS, damage
from tests.campaigns.fault_worlds import FaultWorld, campaign_parser, finish, report_trial
from tests.campaigns.forked_command import DOCUMENTED, TRACEBACK, EndedCommand
from tests.campaigns.system_calls import contents
from tunesmith.train.run.checkpoint_files import MANIFEST

METHODS = ("sft", "dpo", "ppo")
STATES = ("finished", "stopped")
RESTARTED = 3
"""`train` is run on every third of the cases that `verify` names."""


@dataclass(frozen=True, slots=True)
class CorruptionTrial:
    """One damaged file.

    method: of training.
    state: of the run, finished or stopped.
    file: relative to the directory of run and cache.
    kind: of damage.
    seed: of its place.
    restart: whether `train` is run in any case.
    """

    method: str
    state: str
    file: str
    kind: str
    seed: int
    restart: bool


def prepare_world(root: Path, method: str) -> FaultWorld:
    """A world with a finished and a stopped run, both kept."""
    world = FaultWorld(root, method, ["train.evaluate_every=null", "train.keep=2"])
    world.expected()
    world.remove(cache=True)
    assert world.train("train.stop_after=2").code == 75
    world.keep("stopped")
    assert world.train().code == 0
    world.keep("finished")
    for state in STATES:
        world.restore(state)
        assert world.verify().code == 0
    return world


def files_of(world: FaultWorld, state: str) -> list[str]:
    """All files of a run and its cache, in their order."""
    kept = world.root / "kept" / state
    return [path.relative_to(kept).as_posix() for path in sorted(kept.rglob("*")) if path.is_file()]


def draw_trial(world: FaultWorld, method: str, state: str, number: int, draw: random.Random) -> CorruptionTrial:
    files = files_of(world, state)
    kind, seed = draw.choice(KINDS), draw.randrange(1 << 30)
    return CorruptionTrial(method, state, files[number % len(files)], kind, seed, number % RESTARTED == 0)


def run_trial(world: FaultWorld, trial: CorruptionTrial) -> tuple[str, list[str]]:
    """(what has happened to the damage, what does not hold)."""
    world.restore(trial.state)
    path = world.root / trial.file
    changed = damage(path, trial.kind, _others(world, path), random.Random(trial.seed))
    if not changed:
        return "no change", []
    verified = world.verify()
    wrong = _find_bad_end("verify", verified)
    named = verified.code != 0 and any(_is_named(verified, each, world) for each in changed)
    if verified.code != 0 and not named:
        wrong.append(f"verify ended with {verified.code} and does not name the file: {verified.last_line()}")
    if named and not trial.restart:
        return "named by verify", wrong
    ended = world.train()
    wrong += _find_bad_end("train", ended)
    if ended.code != 0:
        if not any(_names(ended, each, world) for each in changed):
            wrong.append(f"train ended with {ended.code} and does not name the file: {ended.last_line()}")
        return ("named by verify, " if named else "") + "refused by train", wrong
    if different := find_changed_results(world, world.verify(), ended):
        wrong.append(f"the result has changed: {different}")
    return ("named by verify, " if named else "") + "same result", wrong


def _others(world: FaultWorld, path: Path) -> list[Path]:
    """Files of the same name in other directories of run and cache; where there are none, those with its ending."""
    found = [each for top in (world.run, world.cache) for each in sorted(top.rglob(f"*{path.suffix}"))]
    files = [each for each in found if each.is_file() and each != path]
    return [each for each in files if each.name == path.name] or files


def find_changed_results(world: FaultWorld, verified: EndedCommand, ended: EndedCommand) -> str:
    """The files of the result that have another content and that neither `verify` nor `train` names.

    ended: `train`, which warns of damaged records and goes on.
    """
    expected, found = world.expected(), contents(world.run)
    newest = max(name.split("/")[1] for name in expected if name.startswith("checkpoints/"))
    wrong = [
        name
        for name in expected
        if name.startswith(("export/", f"checkpoints/{newest}/")) or "/" not in name
        if found.get(name) != expected[name] and not _is_named(verified, world.run / name, world)
        if f"{world.run / name} is missing or was changed" not in ended.text
    ]
    return ", ".join(wrong)


def _is_named(verified: EndedCommand, path: Path, world: FaultWorld) -> bool:
    """Whether `verify` names a file, or a directory above it that is gone, as damaged."""
    for line in verified.text.splitlines():
        state, _, rest = line.partition(": ")
        named = world.run / rest.partition(": ")[0]
        listed = path.name == MANIFEST and named.parent == path.parent  # of another checkpoint, after a swap
        if state in ("damaged", "missing") and (named == path or named in path.parents or listed):
            return True
    # Without a recipe or a manifest nothing else can be verified.
    return verified.code != 0 and path.parent == world.run and path.name in verified.last_line()


def _names(ended: EndedCommand, path: Path, world: FaultWorld) -> bool:
    """Whether a message names the file, or its directory below the run or the cache."""
    if path.name in ended.text:
        return True
    parent = path.parent
    return parent not in (world.run, world.cache) and parent.name in ended.text


def _find_bad_end(command: str, ended: EndedCommand) -> list[str]:
    if ended.code not in DOCUMENTED or TRACEBACK in ended.text:
        return [f"{command} ended with {ended.code}: {ended.last_line()}"]
    return []


def campaign(
    root: Path, count: int, seed: int, methods: tuple[str, ...] = METHODS
) -> tuple[Mapping[str, object], list[dict[str, object]]]:
    """The figures, and the trials that do not hold."""
    worlds = {method: prepare_world(root / method, method) for method in methods}
    places = [(method, state) for method in methods for state in STATES]
    draw, failed = random.Random(seed), list[dict[str, object]]()
    ends, files = Counter[str](), dict[str, Counter[str]]()
    for number in range(count):
        method, state = places[number % len(places)]
        trial = draw_trial(worlds[method], method, state, number // len(places), draw)
        end, wrong = run_trial(worlds[method], trial)
        ends[end] += 1
        files.setdefault(_kind_of_file(trial.file), Counter())[end] += 1
        report_trial(number, count, str(trial), wrong)
        if wrong:
            failed.append({**asdict(trial), "end": end, "wrong": wrong})
    return {"ends": dict(ends), "files": {name: dict(each) for name, each in sorted(files.items())}}, failed


def _kind_of_file(name: str) -> str:
    """The name of a file without numbers and digests of directories."""
    parts = ["*" if any(sign.isdigit() for sign in part) else part for part in name.split("/")]
    return "/".join(parts)


def main() -> None:
    options = campaign_parser(__doc__, 2500).parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as directory:
        figures, failed = campaign(Path(directory).resolve(), options.trials, options.seed)
    finish("damaged files were named, healed or harmless", figures, failed, options.trials, options.json)


if __name__ == "__main__":
    main()
