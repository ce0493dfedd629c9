"""Where the configuration of a model comes from: a directory, a table of known models, another recipe, or the hub."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from tunesmith.compose.sizing.known_models import KNOWN_MODELS
from tunesmith.compose.sizing.networks import ModelSizes
from tunesmith.errors import MissingInputError
from tunesmith.files import LARGEST_SETTINGS, find_inner_file, looks_like_path, read_object
from tunesmith.model.configuration import check_config
from tunesmith.model.directory import CONFIG, FETCH_AGAIN, is_adapter, read_directory
from tunesmith.model.names import CLASSIFIER, EXPORT
from tunesmith.recipe.layers import catalog_files
from tunesmith.recipe.load import load
from tunesmith.recipe.model import ModelConfig
from tunesmith.text.tokenizer.hub_errors import describe_hub_error


@dataclass(frozen=True, slots=True)
class FoundModel:
    """The configuration of a model.

    entries: of its config.json, with the architecture as ``model_type``.
    scores: whether it is a reward model.
    origin: where the configuration comes from, for the user.
    """

    entries: Mapping[str, Any]
    scores: bool
    origin: str

    def sizes(self, *, scores: bool | None = None) -> ModelSizes:
        """What is counted. scores: given, whether it gets the head of a reward model."""
        return ModelSizes(self.entries, self.scores if scores is None else scores)


def find_model_sizes(keys: ModelConfig) -> FoundModel:
    """The configuration of the model of a recipe. Raises MissingInputError, DataError."""
    if keys.init is not None:
        entries = {"model_type" if key == "architecture" else key: value for key, value in keys.init.items()}
        return FoundModel(entries, False, "model.init")
    assert keys.path is not None
    path = Path(keys.path).expanduser()
    if path.is_dir() and find_inner_file(path, CONFIG) is None:
        read_directory(path)  # only adapters are a model without a configuration here, and a run is none
    return find_named_model(keys.path, keys.revision)


def find_named_model(name: str, revision: str | None = None) -> FoundModel:
    """The configuration of a model directory, of the base of adapters, of a run or its export, or of a hub name.

    A run of a built-in recipe that does not exist yet has the model of that recipe. Of the hub only config.json is
    read.
    Raises MissingInputError, DataError.
    """
    path = Path(name).expanduser()
    if is_adapter(path):
        base = read_directory(path)
        entries = {**base.config.entries, "model_type": base.architecture}
        return FoundModel(entries, base.is_classifier, f"the base of {path}")
    for directory in (path / EXPORT, path):
        if (file := find_inner_file(directory, CONFIG) if directory.is_dir() else None) is not None:
            return _read(file, directory / CONFIG)
    if name in KNOWN_MODELS:
        return FoundModel(KNOWN_MODELS[name], False, f"the known sizes of {name}")
    if (planned := _find_planned_run(path)) is not None:
        return planned
    if looks_like_path(name):
        raise MissingInputError("there is no such model directory", where=name, advice="check the path")
    try:
        return _read(Path(hf_hub_download(name, CONFIG, revision=revision)), Path(name) / CONFIG)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError, ValueError) as error:
        what, advice = describe_hub_error(error)
        raise MissingInputError(f"cannot read its {CONFIG}: {what}", where=name, advice=advice) from error


def _find_planned_run(path: Path) -> FoundModel | None:
    """The model of the built-in recipe whose run would be this path."""
    name = path.parent.name if path.name == EXPORT else path.name
    if name not in catalog_files():
        return None
    recipe = load([name]).recipe
    found = find_model_sizes(recipe.model)
    scores = found.scores or recipe.objective.kind == "reward"
    return FoundModel(found.entries, scores, f"the recipe {name}, which has not run yet")


def _read(file: Path, where: Path) -> FoundModel:
    content = read_object(file, advice=FETCH_AGAIN, largest=LARGEST_SETTINGS)
    checked = check_config(content, where)
    scores = str((checked.entries.get("architectures") or [""])[0]).endswith(CLASSIFIER)
    return FoundModel({**checked.entries, "model_type": checked.architecture}, scores, str(where))
