"""What a recipe has to know of the model that it begins with: size, limits and prompt format."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from tunesmith.compose.components.format_choice import FormatChoice, choose_format
from tunesmith.errors import RecipeError
from tunesmith.generate.export_directory import find_export
from tunesmith.model.directory import find_model
from tunesmith.model.names import DESCRIPTION
from tunesmith.recipe.data import DOCUMENTS
from tunesmith.recipe.families import ENCODER_DECODERS

POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx")
TOKENIZER_FORMAT_OPTIONS = ("template", "tokens")  # which the tokenizer of an export has


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
    format: FormatChoice
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
        _written_format(path, found.architecture),
        (Path(path) / DESCRIPTION).is_file(),
    )


def _written_format(path: str, architecture: str) -> FormatChoice:
    """The format as a recipe has it: without the options that every use reads from the tokenizer of the export."""
    found = choose_format(path, architecture, path)
    if found.name != "tokenizer":
        return found
    return replace(
        found, options={key: value for key, value in found.options.items() if key not in TOKENIZER_FORMAT_OPTIONS}
    )


def check_reward_model(word: str) -> None:
    """Raises MissingInputError, DataError or RecipeError unless the word means a reward model."""
    path = str(find_export(word)) if Path(word).expanduser().exists() else word
    if not find_model(path).is_classifier:
        advice = "train one on pairs of replies: tunesmith init PAIRS --objective reward --model MODEL"
        raise RecipeError("this is not a reward model", where=word, advice=advice)


def format_for(model: BaseModel, reader: str) -> FormatChoice:
    """The format of the model, except that documents have no turns."""
    if reader != DOCUMENTS:
        return model.format
    return choose_format(model.path, model.architecture, model.path, documents=True)
