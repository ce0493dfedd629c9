"""What every run prepares before its method: data, tokenizer and model, with the checks of the model."""

from __future__ import annotations

from typing import Any

from tunesmith.compose.components.data import prepare_data
from tunesmith.compose.components.run_lines import length_warnings, writes_replies
from tunesmith.compose.components.steps import build_draws
from tunesmith.compose.components.tokenizer import build_renderer
from tunesmith.compose.methods.method import RunContext
from tunesmith.compose.methods.registry import METHODS
from tunesmith.compose.models import families
from tunesmith.compose.models.adapted import describe_base, describe_parameters
from tunesmith.compose.models.base_identity import random_base
from tunesmith.compose.models.building import BuiltModel, division_of
from tunesmith.compose.progress import show_progress
from tunesmith.model.devices import describe_device
from tunesmith.model.directory import find_model
from tunesmith.model.shard import Division
from tunesmith.model.split import WeightStorage
from tunesmith.model.stock_tokenizer import find_tokenizer_fault
from tunesmith.recipe.schema import Recipe
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.train.run.directory import RunDirectory
from tunesmith.train.run.view import View
from tunesmith.world import Communicator

USUAL_LAYOUTS = ("tree", "padded")
"""Layouts of batches that the first choice of the self-test is; another one is slower and is named."""


def prepare_run(recipe: Recipe, run: RunDirectory, view: View, world: Communicator) -> RunContext[Any, Any]:
    """Prepare data, tokenizer and model, which every method needs, and print what they are. Raises TunesmithError."""
    with show_progress("preparing data", shown=world.is_first) as progress:
        prepared, evaluated = world.in_turn(lambda: prepare_data(recipe, progress))
    draws = build_draws(recipe, prepared.train)
    drawn = {draw.name: (draw.count, len(draw.examples)) for draw in draws}
    for line in prepared.report.lines(drawn, only_prompts=writes_replies(recipe)):
        view.note(line)
    for line in length_warnings(recipe, prepared.report):
        view.warn(line)
    for found in (prepared, evaluated):
        if found is not None and found.quarantine is not None:
            view.note(f"rows that could not be used are listed in {found.quarantine}")
    renderer = build_renderer(recipe)
    tokenizer = renderer.tokenizer
    method = METHODS[recipe.objective.kind]
    division = division_of(recipe, world)
    built = build_together(recipe, tokenizer, world, division)
    model = built.model
    families.check_positions(recipe, model)
    parameters = describe_parameters(model)
    policy = method.prepare_policy(recipe, built.opened, tokenizer)
    resized = f", embedding rows {built.before:,} -> {built.after:,}" if built.before != built.after else ""
    weights = WeightStorage(families.weight_format(recipe))
    stored = "" if weights.format == "float32" else f", weights stored as {weights.format}"
    view.note(f"model: {type(model).__name__}, {parameters}{resized}{stored}{describe_base(recipe.model)}")
    if recipe.model.path is not None and (unused := find_model(recipe.model.path, recipe.model.revision).config.unused):
        view.note(f"not used from the configuration of the model: {', '.join(unused)}")
    layout = "" if policy.layout in USUAL_LAYOUTS else f", layout {policy.layout}"
    difference = f"difference {policy.difference:.1g}{layout}"
    view.note(f"model check: same results as stock transformers ({difference})")
    together = "" if world.size == 1 else f"; {world.size} processes, train.shard {recipe.train.shard}"
    device = f"{describe_device(policy.policy.device)}, {recipe.model.dtype}"
    view.note(f"device: {device}; attention: {policy.kernels}{together}")
    if policy.rejected:
        view.warn(f"batches are read thread by thread, which is slower, because this model fails as {policy.rejected}")
    if (fault := find_tokenizer_fault(model.config, tokenizer)) is not None:
        view.warn(fault)
    weights.store(model)  # after the checks of the model, which are exact in float32 only
    base = random_base(recipe, model)
    return RunContext(
        *(recipe, run, prepared, evaluated, tokenizer, renderer, model, built.after, policy, weights, world),
        division=division,
        random_base=base,
    )


def build_together(recipe: Recipe, tokenizer: Tokenizer, world: Communicator, division: Division | None) -> BuiltModel:
    """The model of a recipe in all processes. One that is not divided is built by the first of them before the others.

    division: as ``division_of`` gives it. Raises RecipeError, MissingInputError, DataError.
    """
    build, keys = METHODS[recipe.objective.kind].build_model, recipe.model
    if division is None:
        return world.in_turn(lambda: build(recipe, recipe.objective, tokenizer, None))
    if keys.path is not None:
        world.in_turn(lambda: find_model(str(keys.path), keys.revision))  # only the first process downloads it
    return build(recipe, recipe.objective, tokenizer, division)
