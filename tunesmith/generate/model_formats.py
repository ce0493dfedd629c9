"""Which prompt format a command uses for each of its models, decided from small files before a model is loaded.

Importing this module loads neither torch nor transformers, so that a wrong format is found at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tunesmith.errors import UsageError
from tunesmith.files import LARGEST_SETTINGS, find_inner_file, read_object
from tunesmith.model.names import CLASSIFIER, DESCRIPTION, EXPORT
from tunesmith.text.formats.format import Format
from tunesmith.text.formats.registry import ENCODER_DECODER, FORMATS, build_format
from tunesmith.text.formats.template_options import template_options
from tunesmith.text.tokenizer.definition import read_chat_template
from tunesmith.text.tokenizer.tokenizer import Tokenizer

CONFIG = "config.json"


def choose_formats(paths: Sequence[str], wanted: str | None, notice: Callable[[str], None]) -> list[str | None]:
    """The prompt format that each model directory needs to be given; None where it declares one, which is kept.

    paths: runs, their exports, or other model directories. One that cannot be read here is left to its loader.
    wanted: the format that the user named; it is for the models that declare none.
    notice: reports a model that keeps another format.
    Raises UsageError for a model without a prompt format, or that cannot use the one that is named; RecipeError for a
    name that is not a format; MissingInputError and DataError for files that cannot be read.
    """
    if wanted is not None and wanted not in FORMATS:
        build_format(wanted)
    return [_choose(path, wanted, notice) for path in paths]


def describe_kept_format(path: str, declared: object) -> str:
    """The sentence about a model that is not used with the format that the user named."""
    return f"{path} keeps its own prompt format, {declared}; --format is for models that declare none"


def check_writes_replies(path: str) -> None:
    """Raises UsageError for a reward model, by the files of its directory or export, and DataError."""
    directory = _export_of(path)
    config, description = _read(directory, CONFIG), _read(directory, DESCRIPTION)
    names = config.get("architectures")
    is_classifier = isinstance(names, list) and any(str(name).endswith(CLASSIFIER) for name in names[:1])
    if is_classifier or description.get("kind") == "reward":
        what = "this is a reward model: it scores replies and cannot write any"
        raise UsageError(what, where=path, advice="score replies with it: tunesmith score")


def _export_of(path: str) -> Path:
    directory = Path(path).expanduser()
    return directory / EXPORT if (directory / EXPORT / CONFIG).is_file() else directory


def _choose(path: str, wanted: str | None, notice: Callable[[str], None]) -> str | None:
    directory = _export_of(path)
    if not (directory / CONFIG).is_file():
        return wanted
    if (directory / DESCRIPTION).is_file():
        declared = _read(directory, DESCRIPTION).get("format")
        if wanted not in (None, declared):
            notice(describe_kept_format(path, declared))
        return None
    config = _read(directory, CONFIG)
    if wanted is None:
        what = f"this model declares no prompt format: it has no {DESCRIPTION}"
        raise UsageError(what, where=path, advice=_advice(directory, config))
    _check_fit(path, directory, config, wanted)
    return wanted


def _check_fit(path: str, directory: Path, config: dict[str, Any], name: str) -> None:
    """Raises UsageError if the format is for the other kind of model, or has tokens that the model does not know."""
    if (name in ENCODER_DECODER) != bool(config.get("is_encoder_decoder")):
        kind = "a causal model" if name in ENCODER_DECODER else "an encoder-decoder"
        what = f"prompt format {name!r} cannot be used with {kind}"
        raise UsageError(what, where=path, advice=_advice(directory, config))
    needed, rows = Tokenizer.load(str(directory), _build(directory, name).controls).size, _vocabulary(config)
    if rows is not None and needed > rows:
        what = f"prompt format {name!r} needs {needed:,} token ids, but the model has {rows:,}"
        raise UsageError(what, where=path, advice=_advice(directory, config))


def _build(directory: Path, name: str) -> Format:
    return build_format(name, template_options(str(directory)) if name == "tokenizer" else {})


def _advice(directory: Path, config: dict[str, Any]) -> str:
    """Which format fits a model that declares none."""
    if config.get("is_encoder_decoder"):
        return "append --format t5-dolly"
    if read_chat_template(directory) is not None:
        return "append --format tokenizer, which is the chat template of its tokenizer"
    return "for a base model append --format plain"


def _vocabulary(config: dict[str, Any]) -> int | None:
    """The rows of the embedding; None where the configuration does not say so."""
    inner = config.get("text_config")
    size = config.get("vocab_size", inner.get("vocab_size") if isinstance(inner, dict) else None)
    return size if type(size) is int else None


def _read(directory: Path, name: str) -> dict[str, Any]:
    """The content of a file; nothing if there is none. Raises DataError, also for a link out of the directory."""
    path = find_inner_file(directory, name)
    return {} if path is None else read_object(path, largest=LARGEST_SETTINGS)
