"""`tunesmith rerun`: trains a run again, and compares."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunesmith.cli.lazy import load_heavy_part


def rerun(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The directory of a run.")],
    directory: Annotated[
        Path | None,
        typer.Option(help="The directory of the new run. [default: RUN with -rerun at its end]", show_default=False),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Compare what the run is made from with what it was, and do not train.")
    ] = False,
) -> None:
    """Repeat a run from its recipe and manifest, and say whether it is bit-identical, or what the first difference is.

    Before training, data, models, code, packages and machine are compared with what the run has recorded. While it
    trains, the metrics are compared step by step; at the end, all weights. If the new run was stopped, the same command
    resumes it. The exit code is 65 if something differs that the run is made from and so the result, and 70 if only the
    result differs.

    For example: tunesmith rerun runs/faq
    """
    words = ["tunesmith", "rerun", str(run), *(["--directory", str(directory)] if directory is not None else [])]
    load_heavy_part("tunesmith.apps.provenance.rerun:run")(run, directory, trains=not check, command=words)
