"""`tunesmith card`: writes the model card of a finished run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tunesmith.cli.lazy import load_heavy_part
from tunesmith.text.visible import visible


def card(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The directory of a finished run, or its export.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Another export of the run, of `tunesmith export RUN --output DIR`. [default: that in the run]",
            show_default=False,
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a card that was edited by hand or by another program.")
    ] = False,
) -> None:
    """Write the model card (README.md) of a finished run into its export.

    It says what the recipe, the manifest, the metrics, and the benchmark results and sampling reports in the directory
    of the run show. What only its author knows is in the section card of the recipe.

    For example: tunesmith card runs/faq
    or, for an export in another place: tunesmith card runs/faq --output published
    """
    write = load_heavy_part("tunesmith.publish.card.writing:write_card")
    print(visible(str(write(run, print_notice, output=output, force=force))))


def print_notice(text: str) -> None:
    print(visible(f"card: {text}"), file=sys.stderr)
