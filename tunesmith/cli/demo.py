"""`tunesmith demo`: the small offline world of the playground."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunesmith.cli.lazy import load_part
from tunesmith.errors import UsageError
from tunesmith.memory import keep_freed_memory

DEMO = "tunesmith.playground.demo:run"
FULL = "tunesmith.playground.stages:FULL"
ENCODER_DECODER = "tunesmith.playground.stages:ENCODER_DECODER"


def demo(
    directory: Annotated[Path, typer.Option(help="Where the demo keeps its data and its run.")] = Path("runs/demo"),
    encoder_decoder: Annotated[
        bool, typer.Option("--encoder-decoder", help="A model of the T5 family instead of a causal one.")
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="Also a reward model, and practice with rewards (PPO).")] = False,
) -> None:
    """Train a small model from nothing, offline, in minutes; then compare, look at its page, and talk to it."""
    if full and encoder_decoder:
        raise UsageError("--full and --encoder-decoder exclude each other", advice="leave one of them out")
    keep_freed_memory()
    other = FULL if full else ENCODER_DECODER if encoder_decoder else None
    settings = {"stages": load_part(other)} if other else {}
    load_part(DEMO)(directory, **settings)
