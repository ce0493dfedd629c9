"""The commands and where they live: the one place that imports by name, so that `--help` loads none of the heavy parts."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Command:
    """part: ``module:function``, imported when the command is run. summary: its line in `tunesmith --help`."""

    part: str
    summary: str


COMMANDS: Mapping[str, Command] = {
    "demo": Command("tunesmith.cli.demo:demo", "Train a small model from nothing, offline, in minutes."),
    "train": Command("tunesmith.cli.train:train", "Train what a recipe describes; the same line again resumes."),
    "check": Command("tunesmith.cli.check:check", "Prove a recipe's masks; find what is odd in its data."),
    "best": Command("tunesmith.cli.best:best", "Say which checkpoint of a run is the best, and why."),
    "chat": Command("tunesmith.cli.chat:chat", "Talk to a trained model in the terminal."),
    "preferences": Command("tunesmith.cli.preferences:preferences", "Make one file of pairs from any preference data."),
    "score": Command("tunesmith.cli.score:score", "Score replies with a reward model: records or reports."),
    "recipes": Command("tunesmith.cli.recipes:recipes", "List the built-in recipes and layers."),
    "show": Command("tunesmith.cli.recipes:show", "Print a recipe with all its values and where each came from."),
    "schema": Command("tunesmith.cli.recipes:schema", "Print the JSON schema of recipes, for editors."),
}


def load_part(part: str) -> Any:
    """``package.module`` -> the module, ``package.module:name`` -> what it calls ``name``."""
    module, _, name = part.partition(":")
    loaded = importlib.import_module(module)
    return getattr(loaded, name) if name else loaded
