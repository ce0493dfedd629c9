"""Opening the model of a run, or of a directory, for a command that generates replies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from tunesmith.compose.methods.registry import METHODS
from tunesmith.compose.run_export import describe_newer_checkpoint, has_checkpoints, load_checkpoint_model
from tunesmith.errors import UsageError
from tunesmith.generate.engine import Engine
from tunesmith.generate.export_directory import build_engine, find_export, open_engine, read_sampling
from tunesmith.generate.sampling import SamplingParameters
from tunesmith.model.names import EXPORT


def open_run(path: str, format: str | None, notice: Callable[[str], None]) -> tuple[Engine, SamplingParameters]:
    """The engine and the sampling of a model directory, or of the newest checkpoint of a run without an export.

    format: the prompt format of a model directory without tunesmith.json.
    notice: reports what is loaded.
    Raises as ``open_engine`` and ``load_checkpoint_model``; UsageError for a reward model.
    """
    directory = Path(path).expanduser()
    if not has_checkpoints(directory) or (directory / EXPORT).is_dir():
        notice(f"loading {find_export(path)}")
        if (newer := describe_newer_checkpoint(directory)) is not None:
            notice(newer)
        return open_engine(path, format)
    notice(f"loading the newest checkpoint of {directory}, which has no export yet")
    found = load_checkpoint_model(directory, "last", notice)
    if METHODS[found.recipe.objective.kind].kind == "reward":
        what = "this run trains a reward model: it scores replies and cannot write any"
        raise UsageError(what, where=directory, advice="export it, and score replies with it: tunesmith score")
    notice(f"this is the model after step {found.step:,}")
    return build_engine(found.model, found.renderer), read_sampling(found.recipe.sampling.model_dump())


def silence_libraries() -> None:
    """Keep bars and warnings of transformers, which are about defaults that are not used here, from the screen."""
    disable_progress_bar()  # type: ignore[no-untyped-call]
    set_verbosity_error()  # type: ignore[no-untyped-call]
