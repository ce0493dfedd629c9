"""`tunesmith demo`: from random weights to an assistant in minutes, offline, with the steps of any other training.

The demo generates texts about a small world, trains a tokenizer and a base model on its prose, and fine-tunes the
base model on demonstrations (SFT) and then on preferences (DPO). With --full it also trains a reward model, and the
assistant with PPO. All models answer the same held-out instructions.
"""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.rule import Rule

from tunesmith.compose import train_recipe
from tunesmith.files import write_json
from tunesmith.playground.answers import comparison_rows, describe_effects, generate_replies, sample_replies
from tunesmith.playground.files import DemoFiles, write_demo_files
from tunesmith.playground.pages import describe_pages, write_comparison
from tunesmith.playground.run_reports import read_validations, report_runs
from tunesmith.playground.stages import CAUSAL, Stage
from tunesmith.recipe.load import load
from tunesmith.report.compare import ComparisonRow, print_comparison

SEED = 1
THREADS = 1
"""Threads of PyTorch. Several threads wait for each other at every operation, and a step of so small a model has
thousands of short ones: next to other busy programs a step with two threads takes several times as long."""


@dataclass(slots=True)
class StageTimer:
    """Prints the title of every stage and measures its time.

    console: where titles are printed.
    began: the time at which the demo started, in seconds.
    seconds: stage -> its duration.
    """

    console: Console
    began: float = field(default_factory=time.monotonic)
    seconds: dict[str, float] = field(default_factory=dict)

    def start(self, title: str) -> None:
        """Print the title of the next stage."""
        self.console.print(Rule(title, align="left", style="dim") if self.console.is_terminal else f"== {title}")

    def stop(self, name: str) -> None:
        """Record the time since the end of the stage before."""
        self.seconds[name] = round(self.total() - sum(self.seconds.values()), 1)

    def total(self) -> float:
        """Seconds since the start of the demo."""
        return time.monotonic() - self.began

    def summary(self) -> str:
        """The durations of all stages in one line."""
        return ", ".join(f"{name} {seconds:.0f} s" for name, seconds in self.seconds.items())


def run(
    directory: Path,
    seed: int = SEED,
    overrides: Sequence[str] = (),
    sizes: Mapping[str, Any] | None = None,
    stages: Sequence[Stage] = CAUSAL,
) -> dict[str, Any]:
    """Run the demo and return its results, which are also written to demo.json.

    directory: the directory for data and runs.
    seed: the seed of the generated texts.
    overrides: single values for all recipes.
    sizes: arguments of ``write_demo_files``, for smaller files.
    stages: the models to train.
    """
    console = Console(highlight=False)
    timer = StageTimer(console)
    timer.start("data: texts about a small world, and a tokenizer")
    files = write_demo_files(directory / "world", seed, **(sizes or {}))
    timer.stop("world")
    exports: dict[str, Path] = {}
    for stage in stages:
        timer.start(stage.title)
        exports[stage.name] = _train(directory, stage, files, exports, overrides)
        timer.stop(stage.name)
    before = {stage.name: stage.before for stage in stages if stage.replies}
    timer.start(f"result: {', '.join(before)} on held-out instructions")
    answers = {name: generate_replies(console, name, exports[name], files.exercises) for name in before}
    timer.stop("questions")
    table = comparison_rows(files.exercises, answers, before)
    for line in describe_effects(table, {stage.name: stage.goal for stage in stages if stage.goal is not None}):
        console.print(line, style="bold", soft_wrap=not console.is_terminal)
    console.print()
    print_comparison(console, table, sample_replies(files.exercises, answers), list(answers))
    comparison = write_comparison(directory, files.exercises, answers)
    timer.stop("pages")
    metrics = {stage.name: read_validations(directory / stage.name) for stage in stages}
    for line in report_runs(directory, stages, metrics):
        console.print(line, soft_wrap=not console.is_terminal)
    result = {
        "seed": seed,
        **_numbers(table, before),
        "validation": {name: found[-1] for name, found in metrics.items() if found},
        "held_out": len(files.exercises),
        "seconds": {**timer.seconds, "all": round(timer.total(), 1)},
    }
    write_json(directory / "demo.json", result)
    console.print(f"Time: {timer.summary()}; {timer.total():.0f} s in total", soft_wrap=True)
    console.print(f"Results: {directory / 'demo.json'}", soft_wrap=True)
    console.print("\nChat with the last model; /context there sets a passage that you ask about:", soft_wrap=True)
    last = shlex.quote(str(directory / list(answers)[-1]))
    console.print(f"  {_command()} chat {last}", soft_wrap=True)
    console.print(f"or in the browser:\n  {_command()} serve {last}", soft_wrap=True)
    console.print()
    for line in describe_pages(directory, [stage.name for stage in stages], comparison):
        console.print(line, soft_wrap=True, markup=False)
    return result


def _numbers(table: Sequence[ComparisonRow], before: Mapping[str, str | None]) -> dict[str, Any]:
    """The table as JSON: rates, their intervals, and gains over the model before."""
    return {
        "rates": {row.name.strip(): {model: rate.share for model, rate in row.rates.items()} for row in table},
        "intervals": {
            row.name.strip(): {model: list(rate.interval()) for model, rate in row.rates.items()} for row in table
        },
        "gains": {
            row.name.strip(): {
                model: {"over": before[model], "difference": gain.difference, "interval": list(gain.interval())}
                for model, gain in row.gains.items()
            }
            for row in table
        },
    }


def _command() -> str:
    """The command that runs Tunesmith as it has to be typed: its name if it is on the path, otherwise its file."""
    installed = Path(sys.prefix, "bin", "tunesmith")
    found = shutil.which("tunesmith")
    if found is not None and Path(found).resolve() == installed.resolve():
        return "tunesmith"
    if not installed.exists():
        return "python -m tunesmith.cli"
    here = Path.cwd()
    return shlex.quote(str(installed.relative_to(here) if installed.is_relative_to(here) else installed))


def _train(
    directory: Path, stage: Stage, files: DemoFiles, exports: Mapping[str, Path], overrides: Sequence[str]
) -> Path:
    """Train the model of one stage and return its export."""
    values = [
        *stage.values(files, exports),
        f"data.cache={directory / 'cache'}",
        f"run.directory={directory / stage.name}",
        f"train.threads={THREADS}",
        *overrides,
        *stage.settings,
    ]
    return train_recipe(load([str(stage.path)], values)).export
