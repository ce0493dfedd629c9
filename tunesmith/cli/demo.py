"""`tunesmith demo`: the small offline world of the playground."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunesmith.cli.lazy import load_part
from tunesmith.memory import keep_freed_memory

DEMO = "tunesmith.playground.demo:run"
ENCODER_DECODER = "tunesmith.playground.demo:ENCODER_DECODER"


def demo(
    directory: Annotated[Path, typer.Option(help="Where the demo keeps its data and its run.")] = Path("runs/demo"),
    encoder_decoder: Annotated[
        bool, typer.Option("--encoder-decoder", help="A model of the T5 family instead of a causal one.")
    ] = False,
) -> None:
    """Train a small model from nothing, offline, in minutes; then compare, look at its page, and talk to it."""
    keep_freed_memory()
    settings = {"stages": load_part(ENCODER_DECODER)} if encoder_decoder else {}
    load_part(DEMO)(directory, **settings)
