"""`tunesmith feedback`: what people think of replies on the chat page becomes a file for training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunesmith.cli.lazy import load_part

FEEDBACK = "tunesmith.serve.conversations.feedback_file:run"


def feedback(
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="The directory of conversations that `tunesmith serve --data` uses.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The new file, such as feedback.jsonl.", show_default=False)
    ],
    pairs: Annotated[
        Path | None,
        typer.Option(help="Write the comparisons to this file as well, as preference pairs.", show_default=False),
    ] = None,
) -> None:
    """Write a file for training from the feedback on the chat page: votes, chosen drafts and edited replies.

    Only conversations in which "Use for training" is switched on are read. The file has OpenAssistant's trees: better
    replies have better ranks, and votes are labels of quality. The last line that is printed is what a recipe needs.

    For example: tunesmith feedback ~/.local/share/tunesmith/chat -o feedback.jsonl
    """
    load_part(FEEDBACK)(data, output, pairs=pairs)
