"""The prompt format of a model for which nobody names one: what it was trained with, or the nearest thing to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunesmith.compose.components.tokenizer import tokenizer_name, tokenizer_revision
from tunesmith.errors import TunesmithError
from tunesmith.generate.export_directory import read_export
from tunesmith.model.load import read_architecture
from tunesmith.recipe.data import DOCUMENTS
from tunesmith.recipe.families import ENCODER_DECODERS
from tunesmith.recipe.schema import Recipe
from tunesmith.recipe.text import AUTO
from tunesmith.text.formats.registry import build_format
from tunesmith.text.formats.template_options import template_options
from tunesmith.text.tokenizer.definition import locate, read_chat_template


@dataclass(frozen=True, slots=True)
class FormatChoice:
    """A prompt format that was chosen.

    name: a key of ``FORMATS``.
    reason: why it is this one.
    options: of the format, as an export declares them.
    """

    name: str
    reason: str
    options: Mapping[str, Any] = field(default_factory=dict)


def choose_format(
    path: str | None, architecture: str, tokenizer: str, revision: str | None = None, *, documents: bool = False
) -> FormatChoice:
    """The prompt format of a model.

    An export goes on with its own, an encoder-decoder reads t5-dolly, documents have no turns and are plain; a
    tokenizer with a chat template is used with that, unless it cannot be used, and any other with ChatML.

    Args:
        path: the directory or hub name of the model; None for random weights.
        architecture: its ``model_type``.
        tokenizer: the directory or hub name of its tokenizer.
        revision: commit, tag or branch of the tokenizer.
        documents: whether all data are documents.

    Raises MissingInputError, DataError.
    """
    causal = architecture not in ENCODER_DECODERS
    if documents and causal:
        return FormatChoice("plain", "documents have no turns")
    if path is not None and Path(path).is_dir() and (info := read_export(Path(path))) is not None:
        return FormatChoice(info.format, "that of the export", info.options)
    if not causal:
        return FormatChoice("t5-dolly", "the format for encoder-decoders")
    if read_chat_template(locate(tokenizer, revision)) is None:
        return FormatChoice("chatml", "the tokenizer has no chat template")
    try:
        build_format("tokenizer", template_options(tokenizer, revision))
    except TunesmithError as error:
        return FormatChoice("chatml", f"the tokenizer's own chat template cannot be used: {error.what}")
    return FormatChoice("tokenizer", "the chat template of the tokenizer")


def with_chosen_format(recipe: Recipe) -> tuple[Recipe, str]:
    """The recipe with a prompt format in place of ``text.format: auto``, and a line that says why it is this one.

    The line is empty for a recipe that names its format. Raises as ``choose_format``.
    """
    if recipe.text.format != AUTO:
        return recipe, ""
    model = recipe.model
    if model.init is not None:
        architecture = str(model.init["architecture"])
    else:
        architecture = read_architecture(str(model.path), model.revision)
    documents = all(source.reader == DOCUMENTS for source in recipe.data.sources)
    chosen = choose_format(
        model.path, architecture, tokenizer_name(recipe), tokenizer_revision(recipe), documents=documents
    )
    text = recipe.text.model_copy(update={"format": chosen.name, "options": dict(chosen.options)})
    return recipe.model_copy(update={"text": text}), f"prompt format: {chosen.name} ({chosen.reason})"
