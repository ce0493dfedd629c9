"""Opening the model of a run, or of a directory, for a command that generates replies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from tunesmith.compose.methods.registry import METHODS
from tunesmith.compose.run_export import describe_newer_checkpoint, has_checkpoints, load_checkpoint_model
from tunesmith.errors import UsageError
from tunesmith.generate.engine import Engine
from tunesmith.generate.export_directory import build_engine, find_export, open_engine, read_export, read_sampling
from tunesmith.generate.model_formats import check_writes_replies, choose_formats, describe_kept_format
from tunesmith.generate.sampling import SamplingParameters
from tunesmith.model.load import read_local_architecture
from tunesmith.model.names import EXPORT
from tunesmith.recipe.load import load
from tunesmith.recipe.schema import Recipe
from tunesmith.train.run.directory import RECIPE


def check_models(paths: Sequence[str], format: str | None, notice: Callable[[str], None]) -> list[str | None]:
    """Check all models before the first is loaded; returns the ``format`` that ``open_run`` needs for each of them.

    format: the prompt format of the models that declare none.
    notice: reports a model that keeps another format.
    Raises MissingInputError, DataError, UsageError, RecipeError.
    """
    for path in paths:
        directory = Path(path).expanduser()
        if is_unexported(directory):
            declared = _read_unexported(directory).text.format
            if format not in (None, declared):
                notice(describe_kept_format(path, declared))
        else:
            read_local_architecture(find_export(path))
            check_writes_replies(path)
            read_export(find_export(path))
    return choose_formats(paths, format, notice)


def open_run(
    path: str, format: str | None, notice: Callable[[str], None], *, limit_input: bool = False
) -> tuple[Engine, SamplingParameters]:
    """The engine and the sampling of a model directory, or of the newest checkpoint of a run without an export.

    format: the prompt format of a model directory without tunesmith.json.
    notice: reports what is loaded.
    limit_input: see ``build_engine``.
    Raises as ``open_engine`` and ``load_checkpoint_model``; UsageError for a reward model.
    """
    directory = Path(path).expanduser()
    if not is_unexported(directory):
        check_writes_replies(path)
        notice(f"loading {find_export(path)}")
        if (newer := describe_newer_checkpoint(directory)) is not None:
            notice(newer)
        return open_engine(path, format, limit_input=limit_input)
    _read_unexported(directory)
    notice(f"loading the newest checkpoint of {directory}, which has no export yet")
    found = load_checkpoint_model(directory, "last", notice)
    notice(f"this is the model after step {found.step:,}")
    limit = found.recipe.text.max_length if limit_input else None
    return build_engine(found.model, found.renderer, limit), read_sampling(found.recipe.sampling.model_dump())


def is_unexported(directory: Path) -> bool:
    """Whether a directory is that of a run whose newest checkpoint is opened."""
    return has_checkpoints(directory) and not (directory / EXPORT).is_dir()


def _read_unexported(run: Path) -> Recipe:
    """The recipe of a run. Raises UsageError for that of a reward model, and RecipeError."""
    recipe = load([str(run / RECIPE)]).recipe
    if METHODS[recipe.objective.kind].kind == "reward":
        what = "this run trains a reward model: it scores replies and cannot write any"
        raise UsageError(what, where=run, advice="export it, and score replies with it: tunesmith score")
    return recipe


def silence_libraries() -> None:
    """Keep bars and warnings of transformers, which are about defaults that are not used here, from the screen."""
    disable_progress_bar()  # type: ignore[no-untyped-call]
    set_verbosity_error()  # type: ignore[no-untyped-call]
