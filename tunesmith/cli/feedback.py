"""`tunesmith feedback`: what people think of replies on the chat page becomes a file for training."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from tunesmith.cli.lazy import load_part
from tunesmith.cli.serve import data_directory

FEEDBACK = "tunesmith.serve.conversations.feedback_file:run"


def feedback(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The new file, such as feedback.jsonl.", show_default=False)
    ],
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DATA]",
            help="The directory of the conversations, as in `tunesmith serve --data`; "
            "by default ~/.local/share/tunesmith/chat.",
            show_default=False,
        ),
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(help="Write the comparisons to this file as well, as preference pairs.", show_default=False),
    ] = None,
) -> None:
    """Write a file for training from the feedback on the chat page: votes, chosen drafts and edited replies.

    Only conversations in which "Use for training" is switched on are read. The file has OpenAssistant's trees: better
    replies have better ranks, and votes are labels of quality. The last lines that are printed say how to train on it.

    For example: tunesmith feedback -o feedback.jsonl
    """
    load_part(FEEDBACK)(data or data_directory(os.environ), output, pairs=pairs)
