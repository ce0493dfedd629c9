"""What a recipe has to know of the model that it begins with: size, limits and prompt format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunesmith.errors import RecipeError, TunesmithError
from tunesmith.generate.export_directory import find_export, read_export
from tunesmith.model.directory import find_model
from tunesmith.model.export import DESCRIPTION
from tunesmith.recipe.data import DOCUMENTS
from tunesmith.recipe.families import ENCODER_DECODERS
from tunesmith.text.formats.registry import build_format
from tunesmith.text.formats.template_options import template_options
from tunesmith.text.tokenizer.definition import locate, read_chat_template

POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx")
TOKENIZER_FORMAT_OPTIONS = ("template", "tokens")  # which the tokenizer of an export has


@dataclass(frozen=True, slots=True)
class PromptFormat:
    """The prompt format of a model.

    name: a key of ``FORMATS``.
    options: of the format, as a recipe has them.
    reason: why it is this one.
    """

    name: str
    reason: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BaseModel:
    """The model that training begins with.

    path: a directory or a hub name.
    architecture: the ``model_type``.
    parameters: how many it has.
    context: the most tokens that it reads; None without a limit.
    format: the prompt format.
    is_export: whether it was trained with Tunesmith.
    """

    path: str
    architecture: str
    parameters: int
    context: int | None
    format: PromptFormat
    is_export: bool

    @property
    def is_encoder_decoder(self) -> bool:
        return self.architecture in ENCODER_DECODERS


def find_base_model(word: str) -> BaseModel:
    """The model that a word means: a run, an export, another model directory, or a hub name.

    Raises MissingInputError, DataError or RecipeError, each with what to do.
    """
    path = str(find_export(word)) if Path(word).expanduser().exists() else word
    found = find_model(path)
    found.check_headers()
    if found.is_classifier:
        advice = "give the model that it was trained from; a reward model is used with --reward"
        raise RecipeError("this is a reward model, which cannot write replies", where=word, advice=advice)
    return BaseModel(
        path,
        found.architecture,
        found.count_parameters(),
        next((int(found.config.entries[key]) for key in POSITIONS if found.config.entries.get(key)), None),
        _choose_format(path, found.architecture),
        (Path(path) / DESCRIPTION).is_file(),
    )


def _choose_format(path: str, architecture: str) -> PromptFormat:
    """That of an export, t5-dolly for encoder-decoders, that of the tokenizer if it has one, otherwise chatml."""
    if Path(path).is_dir() and (info := read_export(Path(path))) is not None:
        options = {key: value for key, value in info.options.items() if key not in TOKENIZER_FORMAT_OPTIONS}
        given = options if info.format == "tokenizer" else info.options
        return PromptFormat(info.format, "that of the export", given)
    if architecture in ENCODER_DECODERS:
        return PromptFormat("t5-dolly", "the format for encoder-decoders")
    if read_chat_template(locate(path)) is None:
        return PromptFormat("chatml", "the tokenizer has no chat template")
    try:
        build_format("tokenizer", template_options(path))
    except TunesmithError as error:
        return PromptFormat("chatml", f"the tokenizer's own chat template cannot be used: {error.what}")
    return PromptFormat("tokenizer", "the chat template of the tokenizer")


def check_reward_model(word: str) -> None:
    """Raises MissingInputError, DataError or RecipeError unless the word means a reward model."""
    path = str(find_export(word)) if Path(word).expanduser().exists() else word
    if not find_model(path).is_classifier:
        advice = "train one on pairs of replies: tunesmith init PAIRS --objective reward --model MODEL"
        raise RecipeError("this is not a reward model", where=word, advice=advice)


def format_for(model: BaseModel, reader: str) -> PromptFormat:
    """The format of the model, except that documents have no turns."""
    if reader == DOCUMENTS and not model.is_encoder_decoder:
        return PromptFormat("plain", "documents have no turns")
    return model.format
