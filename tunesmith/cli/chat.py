"""`tunesmith chat`: talk to a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tunesmith.cli.lazy import load_part
from tunesmith.errors import UsageError
from tunesmith.recipe.reading import parse_scalar

CHAT = "tunesmith.apps.chat:run"


def chat(
    path: Annotated[str, typer.Argument(metavar="RUN", help="A run's directory, or a model directory.")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            help="How replies are drawn, such as temperature=0.7 top_p=0.9.",
            show_default=False,
        ),
    ] = None,
    system: Annotated[str | None, typer.Option(help="System message, for formats that have one.")] = None,
    seed: Annotated[int | None, typer.Option(help="Repeat a conversation; otherwise a new seed is shown.")] = None,
    save: Annotated[Path | None, typer.Option(help="Keep the conversation in this new file.")] = None,
    prompt_format: Annotated[
        str | None, typer.Option("--format", help="Prompt format of a model that does not carry one.")
    ] = None,
) -> None:
    """Talk to a trained model in the terminal; through a pipe, every line is a message and every reply a line or more.

    For example: tunesmith chat runs/dolly-v2-3b-tiny temperature=0.7
    """
    sampling = dict(_setting(word) for word in settings or ())
    load_part(CHAT)(path, format=prompt_format, system=system, sampling=sampling, seed=seed, save=save)


def _setting(word: str) -> tuple[str, Any]:
    name, equals, value = word.partition("=")
    if not equals:
        raise UsageError(f"cannot read {word!r}", advice="settings are written as temperature=0.7")
    return name, parse_scalar(value)
