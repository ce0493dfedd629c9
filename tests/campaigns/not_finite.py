"""Plant NaN, infinities and numbers that overflow in runs: each stops at that step, and nothing of it is written.

    python -m tests.campaigns.not_finite [--trials 300] [--seed 0] [--json FILE]

Runs of all methods and optimizers get one such number: in a gradient, a weight, the row of a token that no text has, a
moment, a loss, the weight of a target, a reward, an advantage, a value, a reference, an evaluation, the weights of the
base model; or a learning rate from 10 to 3e38. A trial holds if

- the run ends with 70 (65 for a base model), and its error names the step and the tensor or the examples;
- no tensor of a checkpoint or export is not finite, and no checkpoint of that step and no export was written;
- without the number the same command ends with 0, and all files equal those of a run that was never disturbed.

A learning rate belongs to the recipe, so such a run is not continued; it may also end with 0 and finite weights.
"""

from __future__ import annotations

import math
import random
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from tests.campaigns.fault_worlds import (
    WORLDS,
    FaultWorld,
    campaign_parser,
    find_not_finite_files,
    finish,
    report_trial,
)
from tests.campaigns.forked_command import TRACEBACK, EndedCommand
from tests.campaigns.injections import OVERFLOW, Injection
from tunesmith.batch.columns import PPO_COLUMNS, REFERENCE
from tunesmith.model.load import new_model

OPTIMIZERS = ("adamw", "muon", "adafactor")
VALUES = (math.nan, math.inf, -math.inf)
STATE = ("weight", "unused row", "moment", "gradient", "evaluation")
"""Places in which every value that is not finite is found in the same step, whatever the method."""
RATES = (10.0, 1e4, 1e10, 1e19, 1e30, 1e38, 3e38)
STEPS = 3
NAMED = re.compile(r"examples? (of step \d+: )?\d+|'[\w.]+'|[\w.]+\.(weight|bias)|validation/\w+|prompt \d+")
"""What an error has to name: examples, a tensor, a metric or a prompt."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One disturbed run.

    method: of training.
    optimizer: of the run.
    place: of the number; "learning rate" and "base model" are no injections into the loop.
    value: the number.
    step: in which it is found.
    seed: decides which tensor and element.
    """

    method: str
    optimizer: str
    place: str
    value: float
    step: int
    seed: int

    def keys(self) -> list[str]:
        """Single values of the recipe."""
        keys = [f"train.optimizer={{kind: {self.optimizer}}}"]
        if self.place == "learning rate":
            keys.append(f"train.learning_rate={self.value:g}")
        return keys


def trials(count: int, draw: random.Random) -> Iterator[Trial]:
    """Trials of all kinds in turn."""
    places = [(method, place) for method in WORLDS for place in (*STATE, "loss", "moment before", "learning rate")]
    places += [(method, "weight of a target") for method in ("sft", "t5")] + [("dpo", REFERENCE)]
    places += [("ppo", place) for place in ("reward", *PPO_COLUMNS)] + [("sft", "base model"), ("dpo", "base model")]
    for number in range(count):
        method, place = places[number % len(places)]
        value = draw.choice(VALUES)
        if place == "learning rate":
            value = draw.choice(RATES)
        elif place in ("loss", "moment before"):
            value = draw.choice((*VALUES, OVERFLOW))
        optimizer = "adamw" if place == "moment before" else draw.choice(OPTIMIZERS)
        step = STEPS if number // len(places) % 2 == 0 else draw.randint(1, STEPS)  # half of them in the last step
        if place == "evaluation":
            step = draw.choice((2, STEPS))
        if place in ("learning rate", "base model"):
            step = 0
        if place == "moment before":
            step = max(2, step)  # the moments of a first step are replaced
        yield Trial(method, optimizer, place, value, step, draw.randrange(1 << 30))


def find_wrong(world: FaultWorld, trial: Trial) -> list[str]:
    """What does not hold; empty if the trial holds."""
    keys = trial.keys()
    if trial.place == "base model":
        return find_wrong_base(world, trial)
    if trial.place == "learning rate":
        world.remove()
        ended = world.train(*keys)
        return [*_find_written(world), *([] if ended.code == 0 else _find_wrong_end(ended, 70, ""))]
    world.expected(*keys)
    world.remove()
    injection = Injection(trial.place, trial.value, trial.step, trial.seed)
    ended = world.train(*keys, prepare=injection.install)
    named = "iteration" if trial.place == "reward" else f"step {trial.step}\\b"
    wrong = [*_find_wrong_end(ended, 70, named), *_find_written(world)]
    saved = sorted(path.name for path in (world.run / "checkpoints").glob("step-*"))
    if trial.place != "reward" and saved != [f"step-{step:06d}" for step in range(1, trial.step)]:
        wrong.append(f"the checkpoints are {saved}")
    if (world.run / "export").exists():
        wrong.append("there is an export")
    again = world.train(*keys)
    if again.code != 0:
        wrong.append(f"the next start ended with {again.code}: {again.last_line()}")
    elif changed := world.differences(*keys):
        wrong.append(f"after the next start: {changed}")
    return wrong


def find_wrong_base(world: FaultWorld, trial: Trial) -> list[str]:
    """As ``find_wrong``, for a number in a base model."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
    model = new_model({"architecture": "llama", **sizes}, 320, 0)
    Injection("weight", trial.value, 0, trial.seed).plant(dict(model.named_parameters()))
    world.remove()
    model.save_pretrained(world.root / "base")
    ended = world.train("model.init=null", f"model.path={world.root}/base")
    return [*_find_wrong_end(ended, 65, ""), *_find_written(world)]


def _find_written(world: FaultWorld) -> Iterator[str]:
    if files := find_not_finite_files(world.run):
        yield f"these files hold numbers that are not finite: {files}"


def _find_wrong_end(ended: EndedCommand, code: int, named: str) -> Iterator[str]:
    if ended.code != code or TRACEBACK in ended.text:
        yield f"ended with {ended.code}: {ended.last_line()}"
    elif NAMED.search(ended.last_line()) is None or re.search(named, ended.last_line()) is None:
        yield f"the error does not name step and tensor or examples: {ended.last_line()}"


def campaign(root: Path, count: int, seed: int) -> tuple[dict[str, object], list[dict[str, object]]]:
    """The figures, and the trials that do not hold."""
    worlds, failed, done = dict[str, FaultWorld](), list[dict[str, object]](), Counter[str]()
    for number, trial in enumerate(trials(count, random.Random(seed))):
        if trial.method not in worlds:
            worlds[trial.method] = FaultWorld(root / trial.method, trial.method)
        wrong = find_wrong(worlds[trial.method], trial)
        done[trial.place] += not wrong
        report_trial(number, count, str(trial), wrong)
        if wrong:
            failed.append({**asdict(trial), "value": str(trial.value), "wrong": wrong})
    return {"held": dict(done)}, failed


def main() -> None:
    options = campaign_parser(__doc__, 300).parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as directory:
        figures, failed = campaign(Path(directory).resolve(), options.trials, options.seed)
    finish("numbers stopped their run at that step, or were harmless", figures, failed, options.trials, options.json)


if __name__ == "__main__":
    main()
