"""`tunesmith demo`: trains small models on a generated world, offline."""

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
    directory: Annotated[Path, typer.Option(help="The directory for the data and runs of the demo.")] = Path(
        "runs/demo"
    ),
    encoder_decoder: Annotated[
        bool, typer.Option("--encoder-decoder", help="Train an encoder-decoder (T5) instead of causal models.")
    ] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Also train a reward model, and the assistant with PPO.")
    ] = False,
) -> None:
    """Train a small language model from random weights and make it an assistant, in minutes on a CPU, without network.

    The base model learns from prose about an invented world, the assistant from instructions with answers (supervised
    fine-tuning), the last model from pairs of a better and a worse answer (DPO). At the end, all models answer the same
    instructions, none of which was trained on; a table compares them, and you can chat with the last model.
    """
    if full and encoder_decoder:
        raise UsageError("--full and --encoder-decoder cannot be combined", advice="leave one of them out")
    keep_freed_memory()
    stages = FULL if full else ENCODER_DECODER if encoder_decoder else None
    settings = {"stages": load_part(stages)} if stages else {}
    load_part(DEMO)(directory, **settings)
