"""`tunesmith compare`: sampling reports next to each other, as a page or as numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunesmith.cli.lazy import load_part


def compare(
    reports: Annotated[
        list[str],
        typer.Argument(metavar="REPORT", help="Sampling reports: the replies of one model to a list of prompts."),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The page to write, such as page.html.", show_default=False),
    ] = None,
    text: Annotated[
        bool, typer.Option("--text", help="Print the numbers; without --output they are printed anyway.")
    ] = False,
    scores: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="Scores of the reports by a reward model, from `tunesmith score`; may be repeated.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="The seed that decides which reply is left and which right in blind votes.")
    ] = 0,
) -> None:
    """Compare the replies of models to the same prompts.

    The page needs no network: it has search, filters, word differences and blind votes. The numbers are the share of
    replies that ended by themselves, length, loops and rewards, and what distinguishes the models on the same prompts.

    For example: tunesmith compare base.json assistant.json -o page.html
    """
    load_part("tunesmith.apps.compare:run")(reports, output=output, text=text, scores=scores or (), seed=seed)
