"""Export directories: finding the one that a path means, reading its tunesmith.json, and opening its model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from tunesmith.errors import DataError, MissingInputError, RecipeError, UsageError
from tunesmith.files import LARGEST_SETTINGS, find_inner_file, read_object
from tunesmith.generate.engine import Engine
from tunesmith.generate.sampling import SamplingParameters
from tunesmith.model.context import context_length
from tunesmith.model.devices import best_device
from tunesmith.model.directory import is_adapter, read_directory
from tunesmith.model.export import ExportInfo
from tunesmith.model.load import is_classifier, load_model, read_local_architecture
from tunesmith.model.names import DESCRIPTION, EXPORT
from tunesmith.text.formats.format import Format
from tunesmith.text.formats.registry import FORMATS, build_format
from tunesmith.text.formats.template_options import template_options
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.render import Renderer

# For every key of tunesmith.json its type, in Python and in the words of an error message.
_TYPES: Mapping[str, tuple[type, str]] = {
    "format": (str, "the name of a prompt format"),
    "options": (dict, "an object"),
    "max_length": (int, "a whole number"),
    "sampling": (dict, "an object"),
    "base": (str, "text"),
    "recipe": (str, "text"),
    "steps": (int, "a whole number"),
    "kind": (str, "assistant or reward"),
}
_DEFAULTS: Mapping[str, Any] = {
    **{"options": {}, "max_length": 0, "sampling": {}, "base": "", "recipe": "", "steps": 0},
    "kind": "assistant",
}


def find_export(path: str | Path) -> Path:
    """The model directory that ``path`` means: a run directory, its export or any other model directory.

    Raises MissingInputError where there is none.
    """
    directory = Path(path).expanduser()
    if not directory.exists():
        advice = "give a run directory, its export, or another local model directory"
        raise MissingInputError("there is no such directory", where=path, advice=advice)
    if (directory / EXPORT / "config.json").is_file():
        return directory / EXPORT
    if (directory / "config.json").is_file() or is_adapter(directory):
        return directory
    if (directory / "recipe.yaml").is_file() or (directory / "checkpoints").is_dir():
        advice = f"export a checkpoint of it: tunesmith export {directory}"
        raise MissingInputError("this run has no export yet", where=directory, advice=advice)
    if directory.is_dir() and not {item.name for item in directory.iterdir()} - {"lock"}:
        advice = "train the run again, or remove the directory"
        raise MissingInputError(
            "the directory is empty, so there is no config.json: no run has begun there", where=directory, advice=advice
        )
    advice = "give a run directory, its export, or another Hugging Face directory with safetensors"
    what = "this is neither a run nor a model directory: it has no config.json"
    raise MissingInputError(what, where=directory, advice=advice)


def read_export(directory: Path) -> ExportInfo | None:
    """The contents of tunesmith.json in a model directory, or None without such a file. Raises DataError."""
    path = directory / DESCRIPTION
    found = find_inner_file(directory, DESCRIPTION)
    if found is None:
        return None
    content = read_object(found, advice="export the model again", largest=LARGEST_SETTINGS)
    values: dict[str, Any] = {**_DEFAULTS, **{key: content[key] for key in _TYPES if key in content}}
    for key, (kind, wanted) in _TYPES.items():
        if not isinstance(values.get(key), kind) or (kind is int and isinstance(values[key], bool)):
            fault = "is missing" if key not in content else f"is {values[key]!r}"
            raise DataError(f"{key!r} {fault}, but must be {wanted}", where=path, advice="export the model again")
    if values["kind"] not in ("assistant", "reward"):
        what = f"'kind' is {values['kind']!r}, but must be assistant or reward"
        raise DataError(what, where=path, advice="another version of tunesmith wrote it; export the model again")
    return ExportInfo(**values)


def read_sampling(values: Mapping[str, Any]) -> SamplingParameters:
    """Sampling parameters from their names and values; null means the default. Raises UsageError."""
    known = {field.name for field in fields(SamplingParameters)}
    for name in values:
        if name not in known:
            raise UsageError(
                f"there is no setting {name!r}", where="sampling", advice=f"known: {', '.join(sorted(known))}"
            )
    return SamplingParameters(**{name: value for name, value in values.items() if value is not None})


def open_engine(
    path: str | Path, format_name: str | None = None, *, limit_input: bool = False
) -> tuple[Engine, SamplingParameters]:
    """Load the model directory that ``path`` means (``find_export``): the engine, and the sampling that it declares.

    The model is in bfloat16 on a CUDA device, otherwise in float32.
    format_name: the prompt format of a directory that does not declare one; where it does, both must agree.
    limit_input: whether inputs of an encoder-decoder are as long as in training at most.
    Raises MissingInputError, DataError, UsageError.
    """
    directory = find_export(path)
    read_local_architecture(directory)
    if is_classifier(str(directory)):
        what = "this is a reward model: it scores replies and cannot write any"
        raise UsageError(what, where=directory, advice="score replies with it: tunesmith score")
    format, sampling = declared_format(directory, format_name)
    tokenizer = Tokenizer.load(tokenizer_place(directory), format.controls)
    info = read_export(directory) if limit_input else None
    limit = info.max_length if info is not None else None
    return build_engine(load_model(str(directory)), Renderer(format, tokenizer), limit), sampling


def tokenizer_place(directory: Path) -> str:
    """Where the tokenizer of a model directory is; adapters may have that of their base. Raises as ``find_model``."""
    found = read_directory(directory)
    if found.adapter is None or (directory / "tokenizer.json").is_file():
        return str(directory)
    return found.adapter.base


def build_engine(model: PreTrainedModel, renderer: Renderer, longest_input: int | None = None) -> Engine:
    """The engine of a model, which is moved to a CUDA device in bfloat16 if there is one.

    longest_input: tokens of the longest input of an encoder-decoder; None or 0 for no other limit than its positions.
    """
    module: nn.Module = model  # its `to` moves the weights in place
    module.eval()
    if (device := best_device()).type == "cuda":
        module.to(device=device, dtype=torch.bfloat16)
    if not longest_input or not model.config.is_encoder_decoder:
        return Engine(model, renderer)
    return Engine(model, renderer, min(longest_input, context_length(model.config) or longest_input))


def declared_format(directory: Path, format_name: str | None) -> tuple[Format, SamplingParameters]:
    """The prompt format and the sampling that a directory declares; arguments and errors as of ``open_engine``."""
    info = read_export(directory)
    if info is None:
        if format_name is None:
            what = f"the directory does not declare its prompt format: it has no {DESCRIPTION}"
            raise UsageError(what, where=directory, advice=f"give --format NAME, one of {', '.join(FORMATS)}")
        options = template_options(str(directory)) if format_name == "tokenizer" else {}
        return build_format(format_name, options), SamplingParameters()
    if format_name not in (None, info.format):
        what = f"this model was trained with prompt format {info.format!r}, not {format_name!r}"
        raise UsageError(what, where=directory, advice="leave --format out")
    try:
        return build_format(info.format, info.options), read_sampling(info.sampling)
    except (RecipeError, UsageError) as error:
        raise DataError(error.what, where=directory / DESCRIPTION, advice=error.advice) from error
