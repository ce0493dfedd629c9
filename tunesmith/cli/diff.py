"""`tunesmith diff`: compares two runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunesmith.cli.lazy import load_part


def diff(
    first: Annotated[Path, typer.Argument(metavar="A", help="The directory of a run.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="The directory of another run.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what differs between two runs (recipe, data, models, code, packages, machine) next to their metrics.

    Values of the recipe have their origins: a line of a file, a layer or the command line. Every metric names the
    differences that can explain it.

    For example: tunesmith diff runs/faq runs/faq-2
    """
    load_part("tunesmith.apps.provenance.diff:run")(first, second, as_json=as_json)
