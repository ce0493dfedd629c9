"""`tunesmith score`: what a reward model says of replies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tunesmith.cli.lazy import load_part
from tunesmith.errors import UsageError
from tunesmith.recipe.reading import parse_scalar

SCORE, READING = "tunesmith.apps.score:run", "tunesmith.apps.score:Reading"


def score(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A reward model: a run's directory, or its export.")],
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT...", help="Files of conversations or preferences, or sampling reports."),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the scores to this file instead of printing them.")
    ] = None,
    reader: Annotated[
        str | None, typer.Option(help="Reader of the files, as in data.sources; default: messages.")
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Option of the reader; may be repeated.")
    ] = None,
    field: Annotated[
        list[str] | None, typer.Option(metavar="KEY=NAME", help="Name of a field in the data; may be repeated.")
    ] = None,
    prompt_format: Annotated[
        str | None, typer.Option("--format", help="Prompt format of a model that does not carry one.")
    ] = None,
    skip: Annotated[bool, typer.Option("--skip", help="Leave out what cannot be scored instead of stopping.")] = False,
) -> None:
    """Score replies with a reward model: every thread of a file of records, or every reply of a sampling report.

    For example: tunesmith score runs/judge mine.jsonl -o scores.jsonl
    """
    fields = {name: str(value) for name, value in map(_setting, field or ())}
    options = dict(map(_setting, option or ()))
    reading = None
    if reader is not None or fields or options:
        reading = load_part(READING)(reader or "messages", fields, options)
    load_part(SCORE)(model, inputs, output=output, reading=reading, format=prompt_format, skip=skip)


def _setting(word: str) -> tuple[str, Any]:
    name, equals, value = word.partition("=")
    if not equals:
        raise UsageError(f"cannot read {word!r}", advice="write it as replies=all")
    return name, parse_scalar(value)
