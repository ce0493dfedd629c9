"""Tokenizer and prompt format of a recipe, and whether another model was trained with the same ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith.errors import RecipeError
from tunesmith.generate.export_directory import read_export
from tunesmith.recipe.schema import Recipe
from tunesmith.text.formats.format import Format
from tunesmith.text.formats.registry import build_format
from tunesmith.text.formats.template_options import template_options
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.render import Renderer


def tokenizer_name(recipe: Recipe) -> str:
    """Directory or hub name of the tokenizer; the recipe guarantees that there is one."""
    name = recipe.model.tokenizer or recipe.model.path
    assert name is not None
    return name


def tokenizer_revision(recipe: Recipe) -> str | None:
    """Commit, tag or branch of a tokenizer that comes with the model."""
    return recipe.model.revision if recipe.model.tokenizer is None else None


def format_options(recipe: Recipe) -> dict[str, Any]:
    """The options of the prompt format.

    The format ``tokenizer`` reads its chat template here, once; the template then is one of the options, so cache keys
    and the export include it. Raises MissingInputError, DataError, RecipeError.
    """
    if recipe.text.format != "tokenizer":
        return dict(recipe.text.options)
    return template_options(tokenizer_name(recipe), tokenizer_revision(recipe), recipe.text.options)


def prompt_format(recipe: Recipe) -> Format:
    """The prompt format with its options. Raises as ``format_options``."""
    return build_format(recipe.text.format, format_options(recipe))


def load_tokenizer(recipe: Recipe, format: Format) -> Tokenizer:
    """The tokenizer with the control tokens of the format. Raises MissingInputError, DataError."""
    return Tokenizer.load(tokenizer_name(recipe), format.controls, tokenizer_revision(recipe))


def build_renderer(recipe: Recipe) -> Renderer:
    """Prompt format and tokenizer together. Raises as ``format_options``."""
    format = prompt_format(recipe)
    return Renderer(format, load_tokenizer(recipe, format), recipe.targets)


def check_same_tokenizer(path: str, tokenizer: Tokenizer, recipe: Recipe, key: str) -> None:
    """Raises RecipeError if a model directory has a tokenizer that gives other ids.

    path: the model directory; one without a tokenizer, or the name of a model on the hub, is accepted.
    key: the recipe key that names it.
    """
    if not (Path(path) / "tokenizer.json").is_file():
        return
    other = Tokenizer.load(path, prompt_format(recipe).controls)
    if other.fingerprint != tokenizer.fingerprint:
        raise RecipeError(
            f"{path} has another tokenizer than {tokenizer_name(recipe)}",
            where=key,
            advice="both must read the same tokens; name a model trained from the same one",
        )


def check_start_format(recipe: Recipe) -> None:
    """Raises RecipeError if training begins with an export that has another prompt format, unless that is meant."""
    path = recipe.model.path
    if path is None or recipe.model.change_format:
        return
    if (difference := _find_other_format(Path(path), recipe)) is not None:
        raise RecipeError(
            difference,
            where="text.format",
            advice="set text.format and text.options to those of the export, or model.change_format to true if the "
            "change is meant",
        )


def check_same_format(directory: Path, recipe: Recipe, key: str) -> None:
    """Raises RecipeError if the model of an export was trained with another prompt format than that of the recipe.

    directory: of the model; one that is not an export of ours is accepted. key: the recipe key that names it.
    """
    if (difference := _find_other_format(directory, recipe)) is not None:
        advice = "use models that were trained with the same tokenizer and prompt format"
        raise RecipeError(difference, where=key, advice=advice)


def _find_other_format(directory: Path, recipe: Recipe) -> str | None:
    """How the prompt format of an export differs from that of a recipe; None if it does not, or if it is no export.

    Formats are compared, not their options: an option that is left out has its default. Raises RecipeError for options
    that this version does not have.
    """
    info = read_export(directory)
    if info is None:
        return None
    ours = (recipe.text.format, format_options(recipe))
    if build_format(info.format, info.options) == build_format(*ours):
        return None
    theirs = _describe_format(info.format, info.options)
    return f"{directory} was trained with prompt format {theirs}, this recipe uses {_describe_format(*ours)}"


def _describe_format(name: str, options: Mapping[str, Any]) -> str:
    return f"{name!r}" + (f" with {dict(options)}" if options else "")
