"""`tunesmith score`: scores replies with a reward model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tunesmith.cli.lazy import load_part
from tunesmith.cli.words import (
    CHOSEN_HELP,
    Chosen,
    FieldOption,
    IgnoreOption,
    KeepOption,
    ReaderOptions,
    split_settings,
)
from tunesmith.recipe.reading import parse_scalar

SCORE, READING = "tunesmith.apps.score:run", "tunesmith.apps.score:ReaderChoice"


def score(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="The directory of a reward model's run, or its export.")
    ],
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help="Files of conversations or preferences. Also sampling reports: JSON with the replies of a model to "
            "prompts, for several sampling settings, as Open-Assistant writes it.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file to write; without it scores are printed.", show_default=False),
    ] = None,
    reader: Annotated[
        str | None,
        typer.Option(
            help="The reader of the files, as in data.sources of a recipe. [default: messages]", show_default=False
        ),
    ] = None,
    option: ReaderOptions = None,
    field: FieldOption = None,
    ignore: IgnoreOption = None,
    prompt_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="The prompt format, such as chatml, of a model that Tunesmith has not exported.",
            show_default=False,
        ),
    ] = None,
    skip: Annotated[
        bool, typer.Option("--skip", help="Leave out replies that cannot be scored instead of stopping.")
    ] = False,
    write: Annotated[
        Literal["scores", Chosen],
        typer.Option(help=f"What to write of sampling reports: their scores, or {CHOSEN_HELP}"),
    ] = "scores",
    keep: KeepOption = None,
) -> None:
    """Score replies with a reward model: a higher score means a better reply.

    A file of conversations or preferences gets one line with a score for every last reply. Sampling reports also show
    how good the best of several replies is (best of n), and --write makes data of the best replies.

    For example: tunesmith score runs/reward-model mine.jsonl -o scores.jsonl
    """
    fields = dict(split_settings(field, "--field prompt=question"))
    options = {name: parse_scalar(value) for name, value in split_settings(option, "--option replies=all")}
    reading = None
    if reader is not None or fields or options or ignore:
        reading = load_part(READING)(reader or "messages", fields, options, tuple(ignore or ()))
    load_part(SCORE)(
        model, inputs, output=output, reading=reading, format=prompt_format, skip=skip, kind=write, keep=keep
    )
