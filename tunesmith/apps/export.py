"""`tunesmith export`: loads a checkpoint of a run and writes its model."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from transformers.utils import logging

from tunesmith.compose.methods.registry import METHODS
from tunesmith.compose.progress import show_progress
from tunesmith.compose.run_export import CheckpointModel, StepChoice, load_checkpoint_model
from tunesmith.errors import UsageError
from tunesmith.files import UNFINISHED, flush_to_disk, storage_errors
from tunesmith.model.gguf_file import check_gguf_installed, write_gguf
from tunesmith.model.names import EXPORT
from tunesmith.text.visible import visible


def run(directory: Path, step: StepChoice, output: Path | None, *, with_pipeline: bool = False) -> None:
    """Export one checkpoint.

    directory: of the run.
    step: of the checkpoint, or last or best.
    output: the directory to write; None for that of the run. One that is not an export is not replaced.
    with_pipeline: whether the export brings the code of a pipeline for stock transformers.
    Raises MissingInputError, UsageError, RecipeError, StorageError.
    """
    target = directory / EXPORT if output is None else output
    if output is not None and target.exists() and not (target / "tunesmith.json").is_file():
        raise UsageError("this exists already and is no export", where=target, advice="choose another --output")
    found = _load(directory, step)
    if with_pipeline and METHODS[found.recipe.objective.kind].kind == "reward":
        what = "a reward model writes no replies, so it has no such pipeline"
        raise UsageError(what, where="--with-pipeline", advice="leave it out")
    found.export(target, _print, with_pipeline=with_pipeline)
    _print(f"exported step {found.step:,} to {target}")


def run_gguf(directory: Path, step: StepChoice, output: Path | None) -> None:
    """Export one checkpoint as one file for llama.cpp.

    directory, step: as of ``run``.
    output: the file to write; None for one in the directory of the run. An existing file is replaced.
    Raises as ``run``, and as ``write_gguf``.
    """
    target = directory / f"{directory.resolve().name}.gguf" if output is None else output
    if target.is_dir():
        raise UsageError("this is a directory", where=target, advice="name a file: --output model.gguf")
    check_gguf_installed()
    found = _load(directory, step)
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=target.parent) as name:
            exported, file = Path(name, EXPORT), Path(name, "model.gguf")
            found.export(exported, _print)
            with show_progress("writing the file"):
                write_gguf(exported, file, found.recipe.name)
            flush_to_disk(file)
            file.replace(target)
        flush_to_disk(target.parent)
    _print(f"exported step {found.step:,} to {target}")


def _load(directory: Path, step: StepChoice) -> CheckpointModel:
    """The model of a checkpoint; progress and damaged checkpoints are reported."""
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    with show_progress("loading the checkpoint"):
        return load_checkpoint_model(directory, step, lambda text: _print(f"warning: {text}"))


def _print(text: str) -> None:
    print(visible(text), file=sys.stderr)
