"""`tunesmith export`: writes the model of a checkpoint as a Hugging Face directory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunesmith.cli.lazy import load_part
from tunesmith.errors import UsageError

COMMAND = "tunesmith.apps.export:run"


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The directory of a run, which may be unfinished.")],
    step: Annotated[
        str, typer.Option(help="The checkpoint: the number of its step, last, or best (by train.best).")
    ] = "last",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The directory to write. [default: export in the run]", show_default=False),
    ] = None,
) -> None:
    """Export a checkpoint of a run, also of one that was stopped or is still running.

    For example: tunesmith export runs/dolly-v2-3b --step best
    """
    if step not in ("last", "best") and not (step.isascii() and step.isdigit()):
        raise UsageError(f"{step!r} is no step", where="--step", advice="give a number, last or best")
    load_part(COMMAND)(run, int(step) if step.isdigit() else step, output)
