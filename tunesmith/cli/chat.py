"""`tunesmith chat`: a conversation with a trained model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from tunesmith.cli.lazy import load_heavy_part, load_part
from tunesmith.cli.serve import API_KEY
from tunesmith.cli.words import split_settings
from tunesmith.errors import UsageError
from tunesmith.recipe.reading import parse_scalar

CHAT = "tunesmith.apps.chat:run"
SERVED_CHAT = "tunesmith.apps.served_chat:run"
FILES = "tunesmith.apps.chat_loop:ChatFiles"
HISTORY = "tunesmith.apps.chat_history:history_path"


Model = Annotated[
    str | None,
    typer.Argument(
        metavar="RUN",
        help="The directory of a run, or a local model directory; with --url the name of one of several models.",
        show_default=False,
    ),
]
Url = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Chat with the server at this address: `tunesmith serve`, or another one with OpenAI's API. Its key is "
        f"read from the environment variable {API_KEY}.",
        show_default=False,
    ),
]


def chat(
    path: Model = None,
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
        typer.Option(
            help="Write the conversations to this new file after every reply, one a line.", show_default=False
        ),
    ] = None,
    url: Url = None,
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

    In the chat, /help lists its commands; /context sets a passage that you ask about. What you type is kept for the
    arrow keys of later chats, in a file that only you can read.

    For example: tunesmith chat runs/dolly-v2-3b-tiny temperature=0.7, or: tunesmith chat --url http://127.0.0.1:8000
    """
    words = [*([path] if path is not None else []), *(settings or [])]
    name = words.pop(0) if words and (url is None or "=" not in words[0]) else None
    sampling = {key: parse_scalar(value) for key, value in split_settings(words, "temperature=0.7")}
    files = load_part(FILES)(save, load_part(HISTORY)(os.environ))
    if url is None:
        if name is None:
            raise UsageError("the model is missing", advice="name the directory of a run: `tunesmith chat RUN`")
        load_heavy_part(CHAT)(name, format=prompt_format, system=system, sampling=sampling, seed=seed, files=files)
        return
    if prompt_format is not None:
        raise UsageError("a server has its own prompt format", where="--format", advice="leave it out with --url")
    api_key = os.environ.get(API_KEY) or None
    named = {"model": name, "key": api_key, "key_name": API_KEY, "system": system, "sampling": sampling, "seed": seed}
    load_part(SERVED_CHAT)(url, **named, files=files)
