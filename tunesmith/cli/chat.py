"""`tunesmith chat`: a conversation with a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunesmith.cli.lazy import load_heavy_part
from tunesmith.cli.words import split_settings
from tunesmith.recipe.reading import parse_scalar

CHAT = "tunesmith.apps.chat:run"


def chat(
    path: Annotated[str, typer.Argument(metavar="RUN", help="The directory of a run, or a local model directory.")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            help="Sampling settings that override those of the model, such as temperature=0.7 top_p=0.9.",
            show_default=False,
        ),
    ] = None,
    system: Annotated[
        str | None, typer.Option(help="A system message, if the prompt format supports one.", show_default=False)
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            help="The random seed, which makes a conversation repeatable. By default a new seed is chosen and printed.",
            show_default=False,
        ),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(help="Write the conversation to this new file after every reply.", show_default=False),
    ] = None,
    prompt_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="The prompt format, such as chatml, of a model that Tunesmith has not exported.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Chat with a trained model in the terminal. If the input is a pipe, each of its lines is one message.

    In the chat, /help lists its commands; /context sets a passage that you ask about.

    For example: tunesmith chat runs/dolly-v2-3b-tiny temperature=0.7
    """
    sampling = {name: parse_scalar(value) for name, value in split_settings(settings, "temperature=0.7")}
    load_heavy_part(CHAT)(path, format=prompt_format, system=system, sampling=sampling, seed=seed, save=save)
