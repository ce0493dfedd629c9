"""What all comparisons with peers share: contenders in processes of their own, alternating rounds, medians, one JSON file."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.contender import THREADS, WARM_UP, rate

REPOSITORY = Path(__file__).resolve().parent.parent

Rounds = Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Contest:
    """contenders: name -> (module, mode). world: the module that writes what all of them read. unit: what is counted.
    losses: the modules whose first loss must agree. packages: whose versions are told. compare: the figures of the rounds.
    shown: those that are printed at the end. form: of the files that ``--data`` takes. records: in
    each round, and how many rounds, if nobody says otherwise."""

    about: str | None
    contenders: Mapping[str, tuple[str, str]]
    world: str
    unit: str
    losses: tuple[str, str]
    packages: Sequence[str]
    compare: Callable[[Rounds], dict[str, float]]
    shown: Sequence[str]
    form: str = "dolly's form"
    records: int = 160
    rounds: int = 3


def run(module: str, *arguments: str) -> None:
    """One module in a process of its own; its output is shown only if it fails."""
    command = [sys.executable, "-m", module, *arguments]
    finished = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if finished.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{finished.stdout[-2000:]}{finished.stderr[-4000:]}")


def medians(rounds: Rounds, unit: str) -> tuple[dict[str, float], dict[str, float]]:
    """(speed, peak memory) of every contender."""
    found = [
        {name: statistics.median(each[key] for each in measured) for name, measured in rounds.items()}
        for key in (f"{unit}_per_second", "peak_memory")
    ]
    return found[0], found[1]


def named(speed: Mapping[str, float], memory: Mapping[str, float], unit: str) -> dict[str, float]:
    """The medians under the names that they have in the JSON file."""
    speeds = {f"{unit}_per_second_{name}": value for name, value in speed.items()}
    return speeds | {f"peak_memory_{name}": value for name, value in memory.items()}


def main(contest: Contest) -> None:
    """The command line of a contest."""
    parser = argparse.ArgumentParser(description=contest.about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--data", type=Path, help=f"a .jsonl file in {contest.form}; without it, generated records")
    parser.add_argument("--tokenizer", help="a tokenizer directory; without it, one trained on generated text")
    parser.add_argument("--rounds", type=int, default=contest.rounds, help="(default %(default)s)")
    parser.add_argument(
        "--records", type=int, default=contest.records, help="records in each round (default %(default)s)"
    )
    given = parser.parse_args()
    found = _hold(contest, given)
    for name in contest.shown:
        print(f"{name:24} {found[name]:.1e}" if name == "loss_difference" else f"{name:24} {found[name]:.3f}")
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _hold(contest: Contest, given: argparse.Namespace) -> dict[str, Any]:
    """All rounds and what follows from them."""
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in contest.contenders}
    with tempfile.TemporaryDirectory() as directory:
        world = Path(directory)
        source = [f"--data={given.data.resolve()}"] if given.data else []
        source += [f"--tokenizer={given.tokenizer}"] if given.tokenizer else []
        run(contest.world, directory, f"--records={given.records}", *source)
        difference = _loss_difference(contest, world)
        for number in range(given.rounds):
            for name, found in rounds.items():
                found.append(_contend(contest, world, name))
                speed, memory = found[-1][f"{contest.unit}_per_second"], found[-1]["peak_memory"] / 2**20
                line = f"round {number + 1}  {name:15} {speed:9,.2f} {contest.unit}/s  peak {memory:6.0f} MiB"
                print(line, flush=True)
    settings = {
        "records": given.records,
        "rounds": given.rounds,
        "data": given.data.name if given.data else "generated",
        "tokenizer": "given" if given.tokenizer else "generated",
        "threads": THREADS,
        "warm_up_steps": WARM_UP,
    }
    versions = {"python": platform.python_version(), **{name: version(name) for name in contest.packages}}
    figures = {**contest.compare(rounds), "loss_difference": difference}
    return {**figures, "settings": settings, "versions": versions, "rounds": rounds}


def _contend(contest: Contest, world: Path, contender: str) -> dict[str, Any]:
    """One round of one contender, as ``contender.Measured`` writes it."""
    module, mode = contest.contenders[contender]
    result = world / "result.json"
    load = os.getloadavg()[0]
    run(module, str(world), str(result), mode)
    measured: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    if not measured["seconds"]:
        raise SystemExit(f"{contender} has no step after the {WARM_UP} of its warm-up; give more --records")
    speed = rate(measured["counted"], measured["seconds"])
    return measured | {"load_before": load, f"{contest.unit}_per_second": speed}


def _loss_difference(contest: Contest, world: Path) -> float:
    """Difference of the first batch's loss. The token ids must be the same."""
    found = []
    for module in contest.losses:
        run(module, str(world), str(world / "loss.json"), "loss")
        found.append(json.loads((world / "loss.json").read_text(encoding="utf-8")))
    if found[0]["ids"] != found[1]["ids"]:
        raise SystemExit("the contenders do not train on the same tokens")
    return abs(float(found[0]["loss"]) - float(found[1]["loss"]))
