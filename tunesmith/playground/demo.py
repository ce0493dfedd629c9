"""`tunesmith demo`: from nothing to an assistant in minutes, offline, by the road that every user takes.

A small world is drawn and written down, a tokenizer and a base model are trained on its prose, the base model is
fine-tuned on demonstrations and then on preferences, and all are asked the same held-out instructions. In full, a reward
model and an assistant that was trained with rewards for its own replies come after them.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.rule import Rule

from tunesmith.compose import train_recipe
from tunesmith.files import write_json
from tunesmith.playground.answers import ask, rows, samples
from tunesmith.playground.files import DemoFiles, write_demo_files
from tunesmith.playground.measured import told_of_runs, validations
from tunesmith.playground.stages import CAUSAL, Stage
from tunesmith.recipe.load import load
from tunesmith.report.compare import ComparisonRow, print_comparison

SEED = 1


@dataclass(slots=True)
class Clock:
    """Says what begins, and how long what came before it took."""

    console: Console
    began: float = field(default_factory=time.monotonic)
    seconds: dict[str, float] = field(default_factory=dict)

    def begins(self, title: str) -> None:
        self.console.print(Rule(title, align="left", style="dim") if self.console.is_terminal else f"== {title}")

    def ended(self, name: str) -> None:
        self.seconds[name] = round(self.total() - sum(self.seconds.values()), 1)

    def total(self) -> float:
        return time.monotonic() - self.began

    def told(self) -> str:
        return ", ".join(f"{name} {seconds:.0f} s" for name, seconds in self.seconds.items())


def run(
    directory: Path,
    seed: int = SEED,
    overrides: Sequence[str] = (),
    sizes: Mapping[str, Any] | None = None,
    stages: Sequence[Stage] = CAUSAL,
) -> dict[str, Any]:
    """The whole demo in ``directory``; returns what it also writes to demo.json.

    overrides: single values for all recipes. sizes: arguments of ``write_demo_files``, for a smaller world.
    """
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=120)  # the table is not wrapped where nobody chose a width
    clock = Clock(console)
    clock.begins("a small world: prose, demonstrations, preferences, held-out instructions, tokenizer")
    files = write_demo_files(directory / "world", seed, **(sizes or {}))
    clock.ended("world")
    exports: dict[str, Path] = {}
    for stage in stages:
        clock.begins(stage.title)
        exports[stage.name] = _train(directory, stage, files, exports, overrides)
        clock.ended(stage.name)
    before = {stage.name: stage.before for stage in stages if stage.replies}
    clock.begins(f"held-out instructions: {' against '.join(before)}")
    answers = {name: ask(console, name, exports[name], files.exercises) for name in before}
    clock.ended("questions")
    table = rows(files.exercises, answers, before)
    print_comparison(console, table, samples(files.exercises, answers), list(answers))
    measured = {stage.name: validations(directory / stage.name) for stage in stages}
    for line in told_of_runs(directory, stages, measured):
        console.print(line, soft_wrap=True)
    result = {
        "seed": seed,
        **_numbers(table, before),
        "validation": {name: found[-1] for name, found in measured.items() if found},
        "held_out": len(files.exercises),
        "seconds": {**clock.seconds, "all": round(clock.total(), 1)},
    }
    write_json(directory / "demo.json", result)
    console.print(f"{clock.told()}; {clock.total():.0f} s in all", soft_wrap=True)
    console.print(f"The numbers are in {directory / 'demo.json'}", soft_wrap=True)
    console.print(f"Talk to it:  {_command()} chat {directory / list(answers)[-1]}", soft_wrap=True)
    return result


def _numbers(table: Sequence[ComparisonRow], before: Mapping[str, str | None]) -> dict[str, Any]:
    """The table as JSON: shares, their intervals, and gains with the model that they are over."""
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
    """How to call us from here: by name where the name is found, otherwise from the virtual environment of the Makefile."""
    return "tunesmith" if shutil.which("tunesmith") else ".venv/bin/tunesmith"


def _train(
    directory: Path, stage: Stage, files: DemoFiles, exports: Mapping[str, Path], overrides: Sequence[str]
) -> Path:
    """Train one of the recipes beside this file; returns its export."""
    values = [
        *stage.values(files, exports),
        f"data.cache={directory / 'cache'}",
        f"run.directory={directory / stage.name}",
        *overrides,
        *stage.settings,
    ]
    return train_recipe(load([str(stage.path)], values)).export
