"""`tunesmith export`: loads a checkpoint of a run and writes its model."""

from __future__ import annotations

import sys
from pathlib import Path

from transformers.utils import logging

from tunesmith.compose.progress import show_progress
from tunesmith.compose.run_export import StepChoice, load_checkpoint_model
from tunesmith.errors import UsageError
from tunesmith.model.names import EXPORT
from tunesmith.text.visible import visible


def run(directory: Path, step: StepChoice, output: Path | None) -> None:
    """Export one checkpoint.

    directory: of the run.
    step: of the checkpoint, or last or best.
    output: the directory to write; None for that of the run. One that is not an export is not replaced.
    Raises MissingInputError, UsageError, RecipeError, StorageError.
    """
    target = directory / EXPORT if output is None else output
    if output is not None and target.exists() and not (target / "tunesmith.json").is_file():
        raise UsageError("this exists already and is no export", where=target, advice="choose another --output")
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    with show_progress("loading the checkpoint"):
        found = load_checkpoint_model(directory, step, lambda text: _print(f"warning: {text}"))
    found.export(target, _print)
    _print(f"exported step {found.step:,} to {target}")


def _print(text: str) -> None:
    print(visible(text), file=sys.stderr)
