"""`tunesmith init`, second part: measures the data with the tokenizer of the model and writes the recipe."""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import transformers

from tunesmith.compose.components.data import source_configs
from tunesmith.compose.draft.base_model import BaseModel, check_reward_model, find_base_model, format_for
from tunesmith.compose.draft.recipe_text import DraftRecipe, Value
from tunesmith.compose.draft.survey import Survey, survey
from tunesmith.compose.draft.values import MOST_BAD, DraftRequest, known_values, measured_values
from tunesmith.compose.models.families import find_family
from tunesmith.compose.progress import show_progress
from tunesmith.compose.run_export import describe_newer_checkpoint, has_checkpoints
from tunesmith.errors import DataError
from tunesmith.files import write_file
from tunesmith.recipe.data import source_name
from tunesmith.recipe.load import LoadedRecipe, load
from tunesmith.text.visible import visible

METHODS: Mapping[str, str] = {
    "sft": "supervised fine-tuning",
    "dpo": "direct preference optimisation",
    "reward": "a reward model",
    "ppo": "proximal policy optimisation",
}


def write_recipe(request: DraftRequest, model: str) -> None:
    """Measure the data, choose the values, write the recipe and print what to do next.

    model: a model directory, a run, or a hub name.
    Raises MissingInputError, DataError, RecipeError or StorageError.
    """
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    base = find_base_model(model)
    if request.reward is not None:
        check_reward_model(request.reward)
    for word in (model, request.reward):
        _print_newer_checkpoint(word)
    base = replace(base, format=format_for(base, request.config.reader))
    recipe = _load(DraftRecipe("", (), request.objective, known_values(request, base))).recipe
    find_family(recipe)  # raises for a method that this kind of model cannot be trained with
    (config,) = source_configs(recipe, recipe.data.sources)
    config = replace(config, key=request.config.key)  # its advice is for this command
    with show_progress("measuring the data") as progress:
        found = survey(config, recipe, progress)
    _check_survey(found, config.path)
    draft = _draft(request, base, measured_values(request, base, found))
    find_family(_load(draft).recipe)
    write_file(request.output, draft.text())
    for line in _summary(found, draft, base, request):
        print(visible(line))


def _print_newer_checkpoint(word: str | None) -> None:
    """Print a notice if the word means a run whose export is older than its newest checkpoint."""
    run = Path(word or "").expanduser()
    if word is not None and has_checkpoints(run) and (newer := describe_newer_checkpoint(run)) is not None:
        print(visible(f"{word}: {newer}"), file=sys.stderr)


def _load(draft: DraftRecipe) -> LoadedRecipe:
    """The recipe as `check` and `train` load it. Raises InvalidRecipeError."""
    with tempfile.TemporaryDirectory(prefix="tunesmith-") as text:
        path = Path(text) / "draft.yaml"
        write_file(path, draft.text())
        return load([str(path)])


def _check_survey(found: Survey, path: str) -> None:
    """Raises DataError if nothing is left, or more is wrong than may be left out."""
    error = found.first_bad
    if error is not None and (not found.lengths or found.bad > MOST_BAD * found.read):
        advice = f" ({error.advice})" if error.advice else ""
        what = (
            f"{found.bad:,} of {found.read:,} records cannot be used; the first is {error.where}: {error.what}{advice}"
        )
        raise DataError(what, where=path, advice="correct or remove them and run the command again")
    if not found.lengths:
        what = f"the reader uses none of {found.read:,} records"
        raise DataError(what, where=path, advice="name another reader with --reader")


def _draft(request: DraftRequest, base: BaseModel, values: Mapping[str, Any]) -> DraftRecipe:
    name = source_name(request.output.name.removesuffix(".yaml").removesuffix(".yml"))
    about = f"{name}: {METHODS[request.objective]} of {base.path} on {request.config.path}"
    commands = next_commands(request.output, name, request.objective, request.program)
    show = f"{request.program} show {shlex.quote(str(request.output))}"
    return DraftRecipe(about, commands, request.objective, {**values, "name": Value(name)}, show)


def next_commands(output: Path, name: str, objective: str, program: str) -> Sequence[str]:
    """What to type next."""
    file, run = shlex.quote(str(output)), f"runs/{name}"
    use = f"{program} score {run} FILE" if objective == "reward" else f"{program} chat {run}"
    return (f"{program} check {file}", f"{program} train {file}", use)


def _summary(found: Survey, draft: DraftRecipe, base: BaseModel, request: DraftRequest) -> Iterator[str]:
    """What was measured and written, for the screen."""
    about = "" if found.is_complete else f"the first {found.read:,} of about {found.usable:,} "
    filtered = f", {found.filtered:,} are filtered by the reader" if found.filtered else ""
    untrained = f", {found.untrained:,} have nothing to train on" if found.untrained else ""
    yield f"{about or f'{found.read:,} '}records were read, {len(found.lengths):,} can be used{filtered}{untrained}"
    if found.first_bad is not None:
        yield f"{found.bad:,} cannot be used and are left out; the first is {found.first_bad}"
    text, model = draft.values["text"], draft.values["model"]
    yield f"model: {model['path'].comment}"
    yield f"format: {text['format'].value} ({text['format'].comment})"
    yield f"length: {text['max_length'].comment}; text.max_length is {text['max_length'].value:,}"
    if request.objective == "dpo" and not base.is_export:
        yield "note: DPO begins with a model that replies already; train it with sft first if it does not"
    yield from ("", f"wrote {request.output}. Next:", *(f"  {command}" for command in draft.commands))
