"""`tunesmith verify`: compares the files of a run or an export with their digests."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunesmith.cli.lazy import load_heavy_part, load_part


def verify(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The directory of a run or of an export.")],
) -> None:
    """Verify every file of a run or an export that has a digest, and list those that are damaged, missing or extra.

    Files that have no digest are listed with the reason. The exit code is 74 if a file is damaged or missing.

    For example: tunesmith verify runs/faq
    """
    run = load_heavy_part("tunesmith.apps.provenance.verify:run")
    run(directory, add_further=load_part("tunesmith.publish.card.verification:add_card_files"))
