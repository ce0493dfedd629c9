"""What all comparisons with other libraries share: separate processes, alternating rounds, medians, a JSON file."""

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

from benchmarks.measurement import THREADS, WARM_UP, rate

REPOSITORY = Path(__file__).resolve().parent.parent

Rounds = Mapping[str, Sequence[Mapping[str, Any]]]
"""Runner -> what it measured in each round: the fields of ``Measurement``, and ``UNIT_per_second``."""

OURS = "ours"
"""The runner that the others are compared with."""


def no_metrics(rounds: Rounds) -> dict[str, float]:
    """A comparison without metrics of its kind."""
    return {}


@dataclass(frozen=True, slots=True)
class Comparison:
    """A comparison of Tunesmith with another library.

    about: the text of ``--help``.
    runners: name -> (module, mode); ``ours`` is one of them.
    inputs: the module that writes the inputs of all runners.
    unit: what is counted, in the plural.
    losses: the modules whose first loss must agree.
    packages: the packages whose versions are recorded.
    speed_ratios: metric -> the runner by whose speed ours is divided.
    memory_ratios: metric -> the runner by whose peak memory ours is divided.
    further: metrics of this comparison alone.
    data_format: the format of the file that ``--data`` takes.
    records: the default number of records in each round.
    rounds: the default number of rounds.
    """

    about: str | None
    runners: Mapping[str, tuple[str, str]]
    inputs: str
    unit: str
    losses: tuple[str, str]
    packages: Sequence[str]
    speed_ratios: Mapping[str, str]
    memory_ratios: Mapping[str, str]
    further: Callable[[Rounds], dict[str, float]] = no_metrics
    data_format: str = "dolly's format"
    records: int = 160
    rounds: int = 3

    def ratios(self, rounds: Rounds) -> dict[str, float]:
        """The metrics that are printed: ratios of medians over the rounds, then the further ones.

        ``ratio_best`` is our speed divided by that of the fastest other runner.
        """
        speed, memory = _medians(rounds, f"{self.unit}_per_second"), _medians(rounds, "peak_memory")
        best = max(value for name, value in speed.items() if name != OURS)
        return {
            **{name: speed[OURS] / speed[other] for name, other in self.speed_ratios.items()},
            "ratio_best": speed[OURS] / best,
            **{name: memory[OURS] / memory[other] for name, other in self.memory_ratios.items()},
            **self.further(rounds),
        }

    def metrics(self, rounds: Rounds) -> dict[str, float]:
        """``ratios``, and the medians of speed and peak memory of every runner."""
        keys = (f"{self.unit}_per_second", "peak_memory")
        return {
            **self.ratios(rounds),
            **{f"{key}_{name}": value for key in keys for name, value in _medians(rounds, key).items()},
        }


def _medians(rounds: Rounds, key: str) -> dict[str, float]:
    return {name: statistics.median(each[key] for each in measured) for name, measured in rounds.items()}


def run(module: str, *arguments: str) -> None:
    """Run one module in a separate process; its output is shown only if it fails. Raises SystemExit then."""
    command = [sys.executable, "-m", module, *arguments]
    finished = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if finished.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{finished.stdout[-2000:]}{finished.stderr[-4000:]}")


def argument_parser(about: str | None, data_format: str, rounds: int, records: int) -> argparse.ArgumentParser:
    """The command line of a benchmark with the options that all of them have."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write all results to this file")
    parser.add_argument("--data", type=Path, help=f"a .jsonl file in {data_format}; without it, generated records")
    parser.add_argument("--tokenizer", help="a tokenizer directory; without it, one trained on generated text")
    parser.add_argument("--rounds", type=int, default=rounds, help="(default %(default)s)")
    parser.add_argument("--records", type=int, default=records, help="records in each round (default %(default)s)")
    return parser


def write_inputs(module: str, directory: Path, given: argparse.Namespace, *options: str) -> None:
    """Let ``module`` write the inputs of all runners, as the command line asks."""
    source = [f"--data={given.data.resolve()}"] if given.data else []
    source += [f"--tokenizer={given.tokenizer}"] if given.tokenizer else []
    run(module, str(directory), f"--records={given.records}", *options, *source)


def main(comparison: Comparison) -> None:
    """The command line of a comparison."""
    about, data_format = comparison.about, comparison.data_format
    given = argument_parser(about, data_format, comparison.rounds, comparison.records).parse_args()
    with tempfile.TemporaryDirectory() as directory:
        inputs = Path(directory)
        write_inputs(comparison.inputs, inputs, given)
        difference = _loss_difference(comparison, inputs)
        rounds = _measure_rounds(comparison, inputs, given.rounds)
    for name, value in comparison.ratios(rounds).items():
        print(f"{name:24} {value:.3f}")
    print(f"{'loss_difference':24} {difference:.1e}")
    settings = {
        "records": given.records,
        "rounds": given.rounds,
        "data": given.data.name if given.data else "generated",
        "tokenizer": "given" if given.tokenizer else "generated",
        "threads": THREADS,
        "warm_up_steps": WARM_UP,
    }
    versions = {"python": platform.python_version(), **{name: version(name) for name in comparison.packages}}
    metrics = {**comparison.metrics(rounds), "loss_difference": difference}
    if given.json:
        found = {**metrics, "settings": settings, "versions": versions, "rounds": rounds}
        given.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _measure_rounds(comparison: Comparison, inputs: Path, count: int) -> dict[str, list[dict[str, Any]]]:
    """``count`` rounds; in each, every runner in turn."""
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in comparison.runners}
    for number in range(count):
        for name, found in rounds.items():
            found.append(_measure(comparison, inputs, name))
            speed, memory = found[-1][f"{comparison.unit}_per_second"], found[-1]["peak_memory"] / 2**20
            line = f"round {number + 1}  {name:15} {speed:9,.2f} {comparison.unit}/s  peak {memory:6.0f} MiB"
            print(line, flush=True)
    return rounds


def _measure(comparison: Comparison, inputs: Path, runner: str) -> dict[str, Any]:
    """One round of one runner: the fields of ``Measurement``, its speed, and the load average before it."""
    module, mode = comparison.runners[runner]
    result = inputs / "result.json"
    load = os.getloadavg()[0]
    run(module, str(inputs), str(result), mode)
    measured: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    if not measured["seconds"]:
        raise SystemExit(f"{runner} has no step after the {WARM_UP} steps of the warm-up; raise --records")
    speed = rate(measured["counted"], measured["seconds"])
    return measured | {"load_before": load, f"{comparison.unit}_per_second": speed}


def _loss_difference(comparison: Comparison, inputs: Path) -> float:
    """The difference of the loss of the first batch. Raises SystemExit unless the token ids are the same."""
    found = []
    for module in comparison.losses:
        run(module, str(inputs), str(inputs / "loss.json"), "loss")
        found.append(json.loads((inputs / "loss.json").read_text(encoding="utf-8")))
    if found[0]["ids"] != found[1]["ids"]:
        raise SystemExit("the runners do not train on the same tokens")
    return abs(float(found[0]["loss"]) - float(found[1]["loss"]))
