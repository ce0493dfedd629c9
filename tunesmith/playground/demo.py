"""`tunesmith demo`: from nothing to an assistant in minutes, offline, by the road that every user takes.

A small world is drawn and written down, a tokenizer and a base model are trained on its prose, the base model is
fine-tuned on demonstrations, and both are asked the same held-out instructions.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import Progress
from rich.rule import Rule

from tunesmith.build import train_recipe
from tunesmith.evaluate.text_match import Rate, passes
from tunesmith.files import write_json
from tunesmith.generate.engine import Reply
from tunesmith.generate.exported import open_engine
from tunesmith.playground.courtesy import in_any_tone, is_courteous
from tunesmith.playground.exercises import Exercise
from tunesmith.playground.files import DemoFiles, write_demo_files
from tunesmith.recipe.load import load
from tunesmith.report.compare import Row, SideBySide, show
from tunesmith.text.tree import Message

HERE = Path(__file__).parent
EXACT, COURTEOUS, STOPPED = "exact answers", "courteous replies", "replies that stop by themselves"
SEED = 1
SHOWN = 3


@dataclass(frozen=True, slots=True)
class Stage:
    """One model of the demo. name: of its directory and column. recipe: the file beside this one. data: which of the
    demo's files it reads, with which reader. before: the stage that it goes on from; None for random weights."""

    name: str
    title: str
    recipe: str
    data: Literal["prose", "demonstrations"]
    reader: str
    before: str | None = None


CAUSAL = (
    Stage("base", "a base model, from random weights", "base", "prose", "messages"),
    Stage(
        "assistant",
        "the assistant: the base model, fine-tuned on demonstrations",
        "assistant",
        "demonstrations",
        "dolly",
        "base",
    ),
)
ENCODER_DECODER = (
    Stage("assistant", "an encoder-decoder, from random weights", "encoder_decoder", "demonstrations", "dolly"),
)


@dataclass(frozen=True, slots=True)
class Answers:
    """One model's replies to the held-out exercises, in their order."""

    replies: tuple[Reply, ...]
    right: tuple[bool, ...]

    def exact(self, exercises: Sequence[Exercise], category: str | None = None) -> Rate:
        chosen = [right for right, each in zip(self.right, exercises, strict=True) if category in (None, each.category)]
        return Rate(sum(chosen), len(chosen))

    def courteous(self) -> Rate:
        return Rate(sum(is_courteous(reply.text) for reply in self.replies), len(self.replies))

    def stopped(self) -> Rate:
        return Rate(sum(reply.stopped for reply in self.replies), len(self.replies))


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
    began = time.monotonic()
    seconds: dict[str, float] = {}

    def phase(name: str, title: str) -> None:
        seconds[name] = round(time.monotonic() - began - sum(seconds.values()), 1)
        console.print(Rule(title, align="left", style="dim") if console.is_terminal else f"== {title}")

    phase("start", "a small world: prose, demonstrations, held-out instructions, tokenizer")
    files = write_demo_files(directory / "world", seed, **(sizes or {}))
    exports: dict[str, Path] = {}
    done = "world"
    for stage in stages:
        phase(done, stage.title)
        exports[stage.name] = _train(directory, stage, files, exports, overrides)
        done = stage.name
    phase(done, "held-out instructions")
    answers = {name: _ask(console, name, export, files.exercises) for name, export in exports.items()}
    phase("questions", " against ".join(exports))
    rows = _rows(files.exercises, answers)
    show(console, rows, _samples(files.exercises, answers), list(exports))
    seconds["all"] = round(time.monotonic() - began, 1)
    result = {
        "seed": seed,
        "rates": {row.name: {model: rate.share for model, rate in row.rates.items()} for row in rows},
        "held_out": len(files.exercises),
        "seconds": seconds,
    }
    write_json(directory / "demo.json", result)
    console.print(f"{seconds['all']:.0f} seconds in all; the numbers are in {directory / 'demo.json'}")
    console.print(f"Talk to it:  {_command()} chat {directory / stages[-1].name}", soft_wrap=True)
    return result


def _command() -> str:
    """How to call us from here: by name where the name is found, otherwise from the virtual environment of the Makefile."""
    return "tunesmith" if shutil.which("tunesmith") else ".venv/bin/tunesmith"


def _train(
    directory: Path, stage: Stage, files: DemoFiles, exports: Mapping[str, Path], overrides: Sequence[str]
) -> Path:
    """Train one of the recipes beside this file; returns its export."""
    data = {"prose": files.prose, "demonstrations": files.demonstrations}[stage.data]
    values = [
        f"model.tokenizer={files.tokenizer}" if stage.before is None else f"model.path={exports[stage.before]}",
        f"data.sources=[{{path: '{data}', reader: {stage.reader}}}]",
        f"data.cache={directory / 'cache'}",
        f"run.directory={directory / stage.name}",
        *overrides,
    ]
    return train_recipe(load([str(HERE / f"{stage.recipe}.yaml")], values)).export


def _ask(console: Console, name: str, export: Path, exercises: Sequence[Exercise]) -> Answers:
    """Greedy replies. Each model gets the instruction in the format it was trained with; for the base that is plain text."""
    engine, sampling = open_engine(export)
    prompts = [[Message("user", each.instruction, context=each.context)] for each in exercises]
    replies: dict[int, Reply] = {}
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"asking the {name} model", total=len(prompts))
        for index, reply in engine.completions(prompts, sampling, seed=0, batch_size=32):
            replies[index] = reply
            bar.advance(task)
    ordered = tuple(replies[index] for index in range(len(prompts)))
    right = tuple(passes(in_any_tone(each.check), reply.text) for each, reply in zip(exercises, ordered, strict=True))
    return Answers(ordered, right)


def _rows(exercises: Sequence[Exercise], answers: Mapping[str, Answers]) -> list[Row]:
    categories = sorted({each.category for each in exercises})
    return [
        Row(EXACT, {model: each.exact(exercises) for model, each in answers.items()}, strong=True),
        *(
            Row(f"  {name}", {model: each.exact(exercises, name) for model, each in answers.items()})
            for name in categories
        ),
        Row(COURTEOUS, {model: each.courteous() for model, each in answers.items()}, strong=True),
        Row(STOPPED, {model: each.stopped() for model, each in answers.items()}, strong=True),
    ]


def _samples(exercises: Sequence[Exercise], answers: Mapping[str, Answers]) -> list[SideBySide]:
    """The first held-out exercise of some categories, whatever was answered."""
    first: dict[str, int] = {}
    for index, each in enumerate(exercises):
        first.setdefault(each.category, index)
    return [
        SideBySide(
            exercises[index].instruction,
            exercises[index].context,
            {model: each.replies[index].text for model, each in answers.items()},
            {model: each.right[index] for model, each in answers.items()},
        )
        for index in list(first.values())[:SHOWN]
    ]
