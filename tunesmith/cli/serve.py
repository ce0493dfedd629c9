"""`tunesmith serve`: models behind a chat page and OpenAI's API."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from tunesmith.cli.lazy import load_heavy_part, load_part
from tunesmith.cli.start_checks import check_models
from tunesmith.errors import MissingInputError
from tunesmith.files import user_directory

SERVE = "tunesmith.serve.app.command:serve"
PLACE = "tunesmith.serve.app.place:server_place"
SETTINGS = "tunesmith.serve.app.settings"
NAMES = "tunesmith.serve.engine.names:name_models"
API_KEY = "TUNESMITH_API_KEY"

Models = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[MODEL...]",
        help="Directories of runs or models, or NAME=DIRECTORY to give them other names; none lists your runs.",
        show_default=False,
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        help="The directory of the conversations, by default ~/.local/share/tunesmith/chat.", show_default=False
    ),
]
Runs = Annotated[
    Path | None,
    typer.Option(help="List the runs in this directory; without MODEL it is runs.", show_default=False),
]


def serve(
    models: Models = None,
    host: Annotated[
        str, typer.Option(help=f"The address. One that others can reach needs a key in {API_KEY}.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes any free one.")] = 8000,
    data: Data = None,
    runs: Runs = None,
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
    """Serve trained models: a chat page for people, and OpenAI's API for programs. Without a model, list the runs.

    The server is reached from this computer only. For others give --host, and put an API key into the environment
    variable TUNESMITH_API_KEY.

    For example: tunesmith serve runs/demo/dpo
    """
    paths = load_part(NAMES)(models or [])
    if paths:
        check_models(list(paths.values()), prompt_format)
    settings = load_part(f"{SETTINGS}:ServerSettings")(
        host=host,
        port=port,
        key=load_part(f"{SETTINGS}:ApiKey").of(os.environ[API_KEY]) if os.environ.get(API_KEY) else None,
        allowed_hosts=tuple(allowed_host or ()),
        allowed_origins=tuple(allowed_origin or ()),
        docs=docs,
    )
    listed = find_runs_directory(runs, bool(paths))
    with load_part(PLACE)(settings, data or data_directory(os.environ)) as place:
        load_heavy_part(SERVE)(paths, place, runs=listed, format=prompt_format)


def find_runs_directory(runs: Path | None, has_models: bool) -> Path | None:
    """The directory whose runs are listed; None for none. Raises MissingInputError."""
    found = Path("runs") if runs is None and not has_models else runs
    if found is not None and not found.is_dir():
        advice = "name a model, or the directory of your runs with --runs; `tunesmith demo` trains a first model"
        raise MissingInputError("there is no such directory", where=found, advice=advice)
    return found


def data_directory(environment: Mapping[str, str]) -> Path:
    """The directory of the conversations, if the user names none."""
    return user_directory("data", environment) / "chat"
