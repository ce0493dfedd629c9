"""The export of a run: from the weights at its end, or from a checkpoint of a run that is not at its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from transformers import PreTrainedModel

from tunesmith.compose.best import best_of_run
from tunesmith.compose.components.tokenizer import build_renderer, format_options
from tunesmith.compose.export_records import LocalPaths, export_records
from tunesmith.compose.manifest import export_origin, find_changed_input
from tunesmith.compose.methods.registry import METHODS
from tunesmith.compose.models import families
from tunesmith.compose.models.adapted import exported_adapter, merge
from tunesmith.compose.models.base_identity import base_facts, check_base, random_base
from tunesmith.errors import MissingInputError, RecipeError, StorageError
from tunesmith.files import read_object
from tunesmith.generate.export_directory import read_export
from tunesmith.model.adapter_files import PeftAdapter
from tunesmith.model.adapters import trained_module
from tunesmith.model.export import ExportInfo, export, fits
from tunesmith.model.export_manifest import is_current
from tunesmith.model.names import EXPORT
from tunesmith.recipe.load import load
from tunesmith.recipe.schema import Recipe
from tunesmith.text.tokens.render import Renderer
from tunesmith.train.run import checkpoint
from tunesmith.train.run.checkpoint_files import Checkpoint
from tunesmith.train.run.directory import CHECKPOINTS, MANIFEST, RECIPE
from tunesmith.train.run.exact_weights import exact_weights
from tunesmith.train.run.finite_state import check_finite_export

StepChoice = int | Literal["last", "best"]
MODULE = "model"
"""Name of the group of tensors in a checkpoint that is exported."""


@dataclass(frozen=True, slots=True)
class CheckpointModel:
    """The model of a checkpoint.

    model: with the weights of the checkpoint.
    renderer: tokenizer and prompt format.
    recipe: of the run.
    step: optimizer steps done.
    run: the directory of the run.
    """

    model: PreTrainedModel
    renderer: Renderer
    recipe: Recipe
    step: int
    run: Path

    def export(self, directory: Path, notice: Callable[[str], None], *, with_pipeline: bool = False) -> None:
        """Write the Hugging Face directory. Arguments and errors as of ``export_model``."""
        export_model(
            self.recipe,
            self.model,
            self.renderer,
            self.step,
            directory,
            notice,
            run=self.run,
            with_pipeline=with_pipeline,
        )


def export_model(
    recipe: Recipe,
    model: PreTrainedModel,
    renderer: Renderer,
    step: int,
    directory: Path,
    notice: Callable[[str], None],
    *,
    run: Path,
    with_pipeline: bool = False,
) -> None:
    """Write the Hugging Face directory of a run, unless it is there already, byte for byte.

    step: optimizer steps after which the model has its weights.
    notice: reports files of the user in the directory, which are kept.
    run: the directory of the run.
    with_pipeline: whether the export brings the code of a pipeline for stock transformers.
    Raises InternalError if a weight is not finite, StorageError.
    """
    check_finite_export(model, step)
    paths = LocalPaths.of(recipe)
    base = paths.name(recipe.model.path or "new")
    adapter = _merge_adapters(recipe, model, base, notice)
    info = ExportInfo(
        format=recipe.text.format,
        options=format_options(recipe),
        max_length=recipe.text.max_length,
        sampling=recipe.sampling.model_dump(),
        base=base,
        recipe=recipe.name,
        steps=step,
        kind=METHODS[recipe.objective.kind].kind,
    )
    name = families.base_dtype(recipe.model) if recipe.run.export_dtype == "base" else recipe.run.export_dtype
    if not fits(model, families.DTYPES[name]):
        notice(f"some weights are too large for {name}, so the export is in float32")
        name = "float32"
    if (left_out := families.describe_left_out(recipe.model, model)) is not None:
        notice(left_out)
    origin = export_origin(model, renderer.tokenizer, renderer.format, info, name, with_pipeline=with_pipeline)
    if is_current(directory, origin):
        return
    dtype = families.DTYPES[name]
    tokenizer, format = renderer.tokenizer, renderer.format
    kept = export(
        directory,
        model,
        tokenizer,
        format,
        info,
        dtype,
        origin=origin,
        adapter=adapter,
        records=export_records(recipe, run, paths),
        with_pipeline=with_pipeline,
    )
    for file in kept:
        notice(f"kept in {directory}: {file}")


def _merge_adapters(
    recipe: Recipe, model: PreTrainedModel, base: str, notice: Callable[[str], None]
) -> PeftAdapter | None:
    """Merge the adapters of a model, if it has any. Returns them for peft; None where they cannot be used alone.

    base: the name of the base model. notice: gets the reason.
    """
    if recipe.model.adapter is None:
        return None
    adapter = exported_adapter(recipe.model, model, base, METHODS[recipe.objective.kind].kind)
    if adapter is None:
        reason = "has random weights" if recipe.model.path is None else "has adapters already"
        notice(f"the export has merged weights only, and no directory of adapters for peft: the base {reason}")
    merge(recipe.model.adapter, model)
    return adapter


def load_checkpoint_model(run: Path, choice: StepChoice, notice: Callable[[str], None]) -> CheckpointModel:
    """Build the model of a run and load the weights of one of its checkpoints. Nothing in the run is changed.

    run: the directory of a run, at its end or not.
    choice: a step that has a checkpoint, the last one, or the best of the evaluations so far.
    notice: reports checkpoints that are damaged.
    Raises MissingInputError, RecipeError, StorageError.
    """
    path = run / RECIPE
    if not path.is_file():
        raise MissingInputError("this is not the directory of a run: it has no recipe.yaml", where=run)
    found = _find_checkpoint(run, choice, notice)
    recipe = load([str(path)]).recipe
    renderer = build_renderer(recipe)
    weights = exact_weights(found, MODULE)  # first, since a run that goes on may delete the checkpoint
    _check_inputs(run, recipe, renderer)
    model = METHODS[recipe.objective.kind].build_model(recipe, recipe.objective, renderer.tokenizer, None).model
    if recipe.model.adapter is not None:
        check_base(found, base_facts(recipe, random_base(recipe, model), run))
    trained_module(model).load_state_dict(weights, strict=True)
    return CheckpointModel(model, renderer, recipe, found.step, run)


def _check_inputs(run: Path, recipe: Recipe, renderer: Renderer) -> None:
    """Raises RecipeError if tokenizer, prompt format or configuration are not those that the run was started with."""
    path = run / MANIFEST
    if not path.is_file():
        raise MissingInputError("the run has no manifest.json", where=run, advice="restore it")
    recorded = read_object(path, advice="restore the file")
    if (changed := find_changed_input(recorded, recipe, renderer.tokenizer)) is not None:
        raise RecipeError(
            f"the {changed} is not the one that the run was started with",
            where=path,
            advice="restore it; the weights of the checkpoint do not belong to another one",
        )


def has_checkpoints(run: Path) -> bool:
    """Whether a directory is that of a run with a checkpoint."""
    return (run / RECIPE).is_file() and bool(checkpoint.latest_attempts(run / CHECKPOINTS))


def describe_newer_checkpoint(run: Path) -> str | None:
    """A sentence if a run has a newer checkpoint than the one that its export was made of; None otherwise.

    Raises DataError for an export that cannot be read.
    """
    export = read_export(run / EXPORT)
    newest = max(checkpoint.latest_attempts(run / CHECKPOINTS), default=0)
    if export is None or newest <= export.steps:
        return None
    return (
        f"this is the export of step {export.steps:,}; the newest checkpoint is that of step {newest:,} "
        f"(to export it: tunesmith export {run})"
    )


def _find_checkpoint(run: Path, choice: StepChoice, notice: Callable[[str], None]) -> Checkpoint:
    """The chosen checkpoint, verified. Raises MissingInputError without one, StorageError if it is damaged."""
    paths = checkpoint.latest_attempts(run / CHECKPOINTS)
    if not paths:
        advice = "training saves one at train.save_every, after a win in an evaluation, and when it is stopped"
        raise MissingInputError("the run has no checkpoint yet", where=run, advice=advice)
    if choice == "last":
        return _newest_valid(paths, notice)
    wanted = best_of_run(run).best if choice == "best" else choice
    if wanted not in paths:
        known = ", ".join(f"{step:,}" for step in sorted(paths))
        what = "no evaluated step has a checkpoint" if wanted == 0 else f"there is no checkpoint of step {wanted:,}"
        raise MissingInputError(what, where=run / CHECKPOINTS, advice=f"there are those of the steps {known}")
    return checkpoint.read(paths[wanted])


def _newest_valid(paths: dict[int, Path], notice: Callable[[str], None]) -> Checkpoint:
    """The newest checkpoint that is not damaged. Raises StorageError if all are."""
    errors = []
    for step in sorted(paths, reverse=True):
        try:
            return checkpoint.read(paths[step])
        except StorageError as error:
            notice(str(error))
            errors.append(error)
    raise errors[0]
