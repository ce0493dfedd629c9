"""`tunesmith export`: writes the model of a checkpoint as a Hugging Face directory."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from tunesmith.cli.lazy import load_part
from tunesmith.errors import UsageError
from tunesmith.text.visible import visible

COMMAND = "tunesmith.apps.export:run"
GGUF_COMMAND = "tunesmith.apps.export:run_gguf"
OUTDATED_CARDS = "tunesmith.publish.card.found:describe_outdated_cards"


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The directory of a run, which may be unfinished.")],
    step: Annotated[
        str, typer.Option(help="The checkpoint: the number of its step, last, or best (by train.best).")
    ] = "last",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The directory or file to write. [default: in that of the run]", show_default=False
        ),
    ] = None,
    to: Annotated[
        Literal["directory", "gguf"],
        typer.Option(help="A Hugging Face directory, or one file for llama.cpp (of Llama and GPT-NeoX)."),
    ] = "directory",
    with_pipeline: Annotated[
        bool,
        typer.Option(
            "--with-pipeline",
            help="Bring the code of a pipeline; transformers then opens the export only with trust_remote_code=True.",
        ),
    ] = False,
) -> None:
    """Export a checkpoint of a run, also of one that was stopped or is still running.

    For example: tunesmith export runs/dolly-v2-3b --step best
    """
    if step not in ("last", "best") and not (step.isascii() and step.isdigit()):
        raise UsageError(f"{step!r} is no step", where="--step", advice="give a number, last or best")
    choice = int(step) if step.isdigit() else step
    if to == "directory":
        load_part(COMMAND)(run, choice, output, with_pipeline=with_pipeline)
        for sentence in load_part(OUTDATED_CARDS)(run, output):
            print(visible(sentence), file=sys.stderr)
        return
    if with_pipeline:
        raise UsageError("a GGUF file has no pipeline", where="--with-pipeline", advice="leave it or --to gguf out")
    load_part(GGUF_COMMAND)(run, choice, output)
