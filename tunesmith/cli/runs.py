"""`tunesmith runs`: lists runs, and writes their pages again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunesmith.cli.lazy import load_heavy_part, load_part
from tunesmith.text.visible import visible


def runs(
    directory: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="A directory with runs, or one run.", show_default=False)
    ] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
    page: Annotated[
        bool, typer.Option("--page", help="Write the page (index.html) of every run in DIR again, and print its path.")
    ] = False,
) -> None:
    """List the runs in a directory (default: runs): state, steps, best checkpoint, time of the last change and size.

    Every run has a page for the browser, index.html in its directory, which is written while it trains.

    For example: tunesmith runs runs/demo
    """
    if not page:
        load_part("tunesmith.apps.runs:run")(directory, as_json=as_json)
        return
    write = load_heavy_part("tunesmith.apps.run_page:run")
    for path in load_part("tunesmith.apps.runs:find_runs")(directory):
        print(visible(str(write(path))))
