"""The table of commands. Modules are imported by name only here, so that `--help` does not import any command."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from tunesmith.launch import launched_process
from tunesmith.memory import keep_freed_memory


@dataclass(frozen=True, slots=True)
class CliCommand:
    """One command of the command line.

    part: ``module:function`` that runs the command; it is imported when the command is run.
    summary: the line of the command in `tunesmith --help`.
    takes_recipe: whether its arguments are a recipe with layers and single values.
    is_divided: whether several processes that were started together divide its work.
    """

    part: str
    summary: str
    takes_recipe: bool = False
    is_divided: bool = False


COMMANDS: Mapping[str, CliCommand] = {
    "demo": CliCommand("tunesmith.cli.demo:demo", "Train a small assistant from scratch, offline, in minutes."),
    "init": CliCommand("tunesmith.cli.init:init", "Look at your data and write a recipe for it."),
    "train": CliCommand("tunesmith.cli.train:train", "Train the model of a recipe, or resume its run.", True, True),
    "check": CliCommand("tunesmith.cli.check:check", "Check data, loss masks and model before training.", True),
    "plan": CliCommand("tunesmith.cli.plan:plan", "Show whether a recipe fits on a GPU, and how long it takes.", True),
    "runs": CliCommand("tunesmith.cli.runs:runs", "List runs: state, steps, best checkpoint; write their pages."),
    "diff": CliCommand("tunesmith.cli.diff:diff", "Show what differs between two runs, and its effects."),
    "rerun": CliCommand("tunesmith.cli.rerun:rerun", "Repeat a run, and compare it bit by bit."),
    "verify": CliCommand("tunesmith.cli.verify:verify", "Verify every digest of a run or an export."),
    "best": CliCommand("tunesmith.cli.best:best", "Show which checkpoint of a run is the best, and why."),
    "export": CliCommand("tunesmith.cli.export:export", "Export a checkpoint of a run, also of a stopped one."),
    "chat": CliCommand("tunesmith.cli.chat:chat", "Chat with a trained model in the terminal."),
    "serve": CliCommand("tunesmith.cli.serve:serve", "Serve models: a chat page, and OpenAI's API for programs."),
    "feedback": CliCommand("tunesmith.cli.feedback:feedback", "Make training data of the feedback on the chat page."),
    "preferences": CliCommand("tunesmith.cli.preferences:preferences", "Convert preference data to one file of pairs."),
    "sample": CliCommand(
        "tunesmith.cli.sample:sample", "Sample the replies of models to prompts: sampling reports.", is_divided=True
    ),
    "score": CliCommand("tunesmith.cli.score:score", "Score replies with a reward model.", is_divided=True),
    "compare": CliCommand("tunesmith.cli.compare:compare", "Compare the replies of models: a page, or numbers."),
    "benchmark": CliCommand(
        "tunesmith.cli.benchmark:benchmark", "Evaluate models on benchmark tasks, with intervals.", is_divided=True
    ),
    "card": CliCommand("tunesmith.cli.card:card", "Write the model card of a finished run."),
    "push": CliCommand("tunesmith.cli.push:push", "Publish an export on the Hugging Face Hub."),
    "recipes": CliCommand("tunesmith.cli.recipes:recipes", "List the built-in recipes and layers."),
    "show": CliCommand("tunesmith.cli.recipes:show", "Show all values of a recipe and their origins.", True),
    "schema": CliCommand("tunesmith.cli.recipes:schema", "Print the JSON schema of recipes, for editors."),
}


def load_heavy_part(part: str) -> Any:
    """As ``load_part``, for a part that imports PyTorch, which takes seconds, so a line says what is happening."""
    if "torch" not in sys.modules:
        keep_freed_memory()
        with suppress(OSError):  # a full disk behind the log does not end training either
            if launched_process(os.environ).rank == 0:
                print("loading PyTorch ...", file=sys.stderr, flush=True)
    return load_part(part)


def load_part(part: str) -> Any:
    """Import ``package.module`` and return it, or import ``package.module:name`` and return its attribute ``name``."""
    module, _, name = part.partition(":")
    loaded = importlib.import_module(module)
    return getattr(loaded, name) if name else loaded
