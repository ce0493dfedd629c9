"""`tunesmith serve`: models behind OpenAI's API."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from tunesmith.cli.lazy import load_heavy_part, load_part
from tunesmith.cli.start_checks import check_models

SERVE = "tunesmith.serve.app.command:serve"
SETTINGS = "tunesmith.serve.app.settings"
NAMES = "tunesmith.serve.engine.names:name_models"
API_KEY = "TUNESMITH_API_KEY"


def serve(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Directories of runs or models, or NAME=DIRECTORY to give them other names.",
            show_default=False,
        ),
    ],
    host: Annotated[
        str, typer.Option(help=f"The address. One that others can reach needs a key in {API_KEY}.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes any free one.")] = 8000,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Another name by which browsers reach the server; may be repeated.", show_default=False
        ),
    ] = None,
    allowed_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL",
            help="A web page elsewhere that may use the API, such as https://chat.example.org; may be repeated.",
            show_default=False,
        ),
    ] = None,
    prompt_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="The prompt format, such as chatml, of models that Tunesmith has not exported.",
            show_default=False,
        ),
    ] = None,
    docs: Annotated[bool, typer.Option("--docs", help="Serve the schema of the API at /openapi.json.")] = False,
) -> None:
    """Serve trained models to programs that use OpenAI's API: /v1/chat/completions, /v1/completions and others.

    The server is reached from this computer only. For others give --host, and put an API key into the environment
    variable TUNESMITH_API_KEY.

    For example: tunesmith serve runs/demo/dpo
    """
    paths = load_part(NAMES)(models)
    check_models(list(paths.values()), prompt_format)
    settings = load_part(f"{SETTINGS}:ServerSettings")(
        host=host,
        port=port,
        key=load_part(f"{SETTINGS}:ApiKey").of(os.environ[API_KEY]) if os.environ.get(API_KEY) else None,
        allowed_hosts=tuple(allowed_host or ()),
        allowed_origins=tuple(allowed_origin or ()),
        docs=docs,
    )
    load_heavy_part(SERVE)(paths, settings, format=prompt_format)
