"""`tunesmith push`: publishes an export on the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunesmith.cli.lazy import load_heavy_part
from tunesmith.errors import UsageError

COMMAND = "tunesmith.publish.hub.command:run"
ACCESS = "tunesmith.publish.hub.push:Access"


def push(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A run, or its export.")],
    destination: Annotated[str, typer.Argument(metavar="hub:NAME", help="The repository, such as hub:me/my-model.")],
    public: Annotated[bool, typer.Option("--public", help="Everybody may see it; a new one is private.")] = False,
    gated: Annotated[
        str | None,
        typer.Option(
            metavar="auto|manual",
            help="Readers accept the conditions of the card first (auto), or are accepted by you (manual).",
            show_default=False,
        ),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="A text that may be published, such as your address.", show_default=False),
    ] = None,
    message: Annotated[str, typer.Option(help="The message of the commit.")] = "Publish the model",
    replace: Annotated[bool, typer.Option("--replace", help="Delete files that the directory does not have.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything and list the files; send nothing.")
    ] = False,
) -> None:
    """Publish an export on the Hugging Face Hub, all of it or nothing.

    The card, the hashes of the weights and every text are checked first. Then the files go to a staging branch, the
    hashes that the hub computes are compared, and one commit puts them on the main branch. After an interruption, the
    same command continues. The token is that of `hf auth login`, or of HF_TOKEN.

    For example: tunesmith push runs/dolly-v2-3b hub:me/dolly-v2-3b --dry-run
    """
    if gated not in (None, "auto", "manual"):
        raise UsageError(f"{gated!r} is not auto or manual", where="--gated")
    access = load_heavy_part(ACCESS)(public, gated)
    run = load_heavy_part(COMMAND)
    run(directory, destination, access, allowed=allow or (), message=message, replace=replace, dry_run=dry_run)
