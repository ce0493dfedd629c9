"""`tunesmith runs`: lists runs, and writes their pages again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunesmith.cli.lazy import load_heavy_part, load_part
from tunesmith.cli.words import split_settings
from tunesmith.text.visible import visible


def runs(
    directory: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="A directory with runs, or one run.", show_default=False)
    ] = Path("runs"),
    sort: Annotated[
        str,
        typer.Option(help="What to sort by: time (the newest first), name, method, model, state, step, loss or size."),
    ] = "time",
    method: Annotated[
        str | None, typer.Option(help="List only runs of this method, such as sft or dpo.", show_default=False)
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="List only runs whose recipe has this value; may be repeated.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
    page: Annotated[
        bool, typer.Option("--page", help="Write the page (index.html) of every listed run again, and print its path.")
    ] = False,
) -> None:
    """List the runs in a directory (default: runs): state, steps, best checkpoint, time of the last change and size.

    Every run has a page for the browser, index.html in its directory, which is written while it trains.

    For example: tunesmith runs --sort loss --where train.epochs=3
    """
    values = split_settings(where, "--where train.epochs=3")
    if not page:
        list_runs = load_part("tunesmith.apps.runs:run")
        list_runs(directory, order=sort, method=method, values=values, as_json=as_json)
        return
    write = load_heavy_part("tunesmith.apps.run_page:run")
    for path in load_part("tunesmith.apps.runs:find_chosen")(directory, method, values):
        print(visible(str(write(path))))
