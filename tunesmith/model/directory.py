"""The only way by which a model enters: a directory is checked by what will be opened, and nothing else is opened.

A directory, or the local copy of a hub repository, is reduced to a ``ModelDirectory``: the used part of its config.json
and a few regular files. transformers reads a temporary directory with exactly these (``ModelDirectory.view``), so it
finds no pickle, no adapter, no code and no name that leads elsewhere.
"""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from tunesmith.errors import DataError, MissingInputError
from tunesmith.files import (
    LARGEST_SETTINGS,
    check_amount,
    find_inner_file,
    fingerprint,
    looks_like_path,
    read_object,
    sha256,
    storage_errors,
)
from tunesmith.model.adapter_config import MOST_ROWS, PeftConfig, check_adapter_config
from tunesmith.model.configuration import CheckedConfig, check_config
from tunesmith.model.names import ADAPTER, ADAPTER_CONFIG, CLASSIFIER, DESCRIPTION, EXPORT, RUN_MANIFEST
from tunesmith.text.tokenizer.hub_errors import describe_hub_error
from tunesmith.text.visible import visible

CONFIG = "config.json"
GENERATION = "generation_config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.joblib")
SHARD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=-]{0,200}\.safetensors")
TENSOR = re.compile(r"[!-~]+")  # printable ASCII without a space
COMMIT = re.compile(r"[0-9a-f]{40}")
FLOATING_POINT = ("F64", "F32", "F16", "BF16")  # of a header; masks and indices are no parameters
LARGEST_HEADER = 100_000_000  # bytes; the safetensors library has the same limit
FETCH_AGAIN = "fetch the model again"


@dataclass(frozen=True, slots=True)
class AdapterDirectory:
    """Adapters that may be opened.

    where: the directory that the user named.
    config: the used part of adapter_config.json.
    files: name -> the real path of every file that is opened.
    base: the directory or hub name of the base model.
    rows: of the embedding of the adapted model, from our description of it; None where it does not say so.
    """

    where: Path
    config: PeftConfig
    files: Mapping[str, Path]
    base: str
    rows: int | None

    @property
    def weights(self) -> Path:
        """The real path of the tensors."""
        return self.files[ADAPTER_WEIGHTS]


@dataclass(frozen=True, slots=True)
class ModelDirectory:
    """A model that may be opened.

    name: the path or hub name that the user gave.
    config: the used part of config.json.
    files: name -> the real path of every file that is opened: configuration, index, and weights.
    weight_map: tensor -> file, from the index; None for a single file.
    generation: content of generation_config.json; None without one.
    commit: of the hub repository; None for a directory.
    adapter: adapters on this model, which are added to its weights when it is loaded; None for a whole model.
    """

    name: str
    config: CheckedConfig
    files: Mapping[str, Path]
    weight_map: Mapping[str, str] | None
    generation: Mapping[str, Any] | None
    commit: str | None
    adapter: AdapterDirectory | None = None

    @property
    def architecture(self) -> str:
        """The ``model_type``."""
        return self.config.architecture

    @property
    def is_classifier(self) -> bool:
        """Whether this is a classification model, as reward models are."""
        if self.adapter is not None:
            return self.adapter.config.is_classifier
        names = self.config.entries.get("architectures") or [""]
        return str(names[0]).endswith(CLASSIFIER)

    def digests(self) -> dict[str, str]:
        """File name -> SHA-256 of every file that is opened."""
        adapter = {} if self.adapter is None else self.adapter.files
        return {name: sha256(path) for name, path in {**self.files, **adapter}.items()}

    def identity(self) -> dict[str, Any]:
        """The digests of all files and of these together, for the manifest of a run."""
        digests = self.digests()
        return {"files": digests, "digest": fingerprint(digests)}

    def check_headers(self) -> None:
        """Check the names of all tensors, and that there are enough for the layers of the model. Raises DataError."""
        _check_layers(self.config, len([*self._tensors()]), Path(self.name) / CONFIG)

    def count_parameters(self) -> int:
        """How many numbers the floating-point tensors have; weights that are tied are stored once. Raises DataError."""
        tensors = (entry for entry in self._tensors() if str(entry.get("dtype")) in FLOATING_POINT)
        return sum(math.prod(entry["shape"]) for entry in tensors)

    def _tensors(self) -> Iterator[Mapping[str, Any]]:
        """What the headers of the weight files say about every tensor."""
        for file, real in self.files.items():
            if file.endswith(".safetensors"):
                yield from _read_header(real, Path(self.name) / file).values()

    @contextmanager
    def view(self) -> Iterator[Path]:
        """A temporary directory that holds the checked configuration and links to the weights, and nothing else.

        Raises as ``check_headers``.
        """
        self.check_headers()
        with tempfile.TemporaryDirectory(prefix="tunesmith-") as text:
            path = Path(text)
            with storage_errors(path):
                self._fill(path)
            yield path

    def _fill(self, path: Path) -> None:
        (path / CONFIG).write_text(json.dumps(self.config.entries), encoding="ascii")
        if self.generation is not None:
            (path / GENERATION).write_text(json.dumps(self.generation), encoding="ascii")
        if self.weight_map is not None:
            content = {"metadata": {}, "weight_map": self.weight_map}
            (path / INDEX).write_text(json.dumps(content), encoding="ascii")
        for name, real in self.files.items():
            if name.endswith(".safetensors"):
                (path / name).symlink_to(real)


def find_model(name: str, revision: str | None = None) -> ModelDirectory:
    """The model in a directory or hub repository, after a check of every file that will be opened.

    What the weights hold is checked by ``ModelDirectory.view``.

    revision: of the hub repository; None for its default. In one process a name always means the same commit.
    Raises MissingInputError (no such directory or name, no configuration or weights) and DataError (anything that may
    not be opened, or that transformers cannot use).
    """
    if Path(name).is_dir():
        return read_directory(Path(name))
    if looks_like_path(name):
        raise MissingInputError("there is no such model directory", where=name, advice="check model.path")
    root = _snapshot(name, revision, (CONFIG, GENERATION, INDEX))
    index = _read_index(root)
    wanted = sorted(set(index.values())) if index is not None else [WEIGHTS]
    _snapshot(name, root.name if COMMIT.fullmatch(root.name) else revision, tuple(wanted))
    return read_directory(root, name)


@cache
def _snapshot(name: str, revision: str | None, files: tuple[str, ...]) -> Path:
    """The local copy of a hub repository, with these files."""
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(files)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError, ValueError) as error:
        what, advice = describe_hub_error(error)
        raise MissingInputError(f"cannot load the model: {what}", where=name, advice=advice) from error


def read_directory(directory: Path, name: str | None = None) -> ModelDirectory:
    """The model in a directory.

    name: what the user called it; by default its path.
    Raises as ``find_model``.
    """
    if is_adapter(directory):
        return _read_adapter(directory, name)
    path = find_inner_file(directory, CONFIG)
    if path is None:
        advice = "model.path names a Hugging Face directory"
        if (directory / EXPORT / CONFIG).is_file():
            advice = f"this is a run; name its export, {directory / EXPORT}"
        raise MissingInputError("there is no config.json in it", where=directory, advice=advice)
    config = check_config(read_object(path, advice=FETCH_AGAIN, largest=LARGEST_SETTINGS), directory / CONFIG)
    files = {CONFIG: path}
    weight_map = None
    if (single := find_inner_file(directory, WEIGHTS)) is not None:
        shards = {WEIGHTS: single}
    else:
        weight_map = _read_index(directory)
        if weight_map is None:
            raise _no_weights(directory)
        files[INDEX] = _required_file(directory, INDEX)
        shards = {shard: _required_file(directory, shard) for shard in sorted(set(weight_map.values()))}
    generation = None
    if (found := find_inner_file(directory, GENERATION)) is not None:
        files[GENERATION] = found
        generation = read_object(found, advice=FETCH_AGAIN, largest=LARGEST_SETTINGS)
    commit = directory.name if name is not None and COMMIT.fullmatch(directory.name) else None
    return ModelDirectory(name or str(directory), config, {**files, **shards}, weight_map, generation, commit)


def is_adapter(directory: Path) -> bool:
    """Whether a directory holds adapters, and no whole model."""
    return (directory / ADAPTER_CONFIG).is_file() and not any((directory / name).exists() for name in (WEIGHTS, INDEX))


def _read_adapter(directory: Path, name: str | None) -> ModelDirectory:
    """The base of adapters, with the adapters. Raises as ``find_model``, also for the base."""
    files = {ADAPTER_CONFIG: _required_file(directory, ADAPTER_CONFIG)}
    content = read_object(files[ADAPTER_CONFIG], advice=FETCH_AGAIN, largest=LARGEST_SETTINGS)
    config = check_adapter_config(content, directory / ADAPTER_CONFIG)
    weights = find_inner_file(directory, ADAPTER_WEIGHTS)
    if weights is None:
        raise _no_weights(directory)
    files[ADAPTER_WEIGHTS] = weights
    _read_header(weights, directory / ADAPTER_WEIGHTS)
    rows = None
    if (description := find_inner_file(directory, DESCRIPTION)) is not None:
        rows = read_object(description, advice=FETCH_AGAIN, largest=LARGEST_SETTINGS).get("rows")
        if rows is not None and (type(rows) is not int or not 1 <= rows <= MOST_ROWS):
            raise DataError("'rows' is not a number of rows", where=directory / DESCRIPTION, advice=FETCH_AGAIN)
    base = _find_base(directory, config)
    return replace(
        base, name=name or str(directory), adapter=AdapterDirectory(directory, config, files, base.name, rows)
    )


def _find_base(directory: Path, config: PeftConfig) -> ModelDirectory:
    """The base of adapters: a directory, also relative to theirs or that of the run that they are in, or a hub name."""
    where = directory / ADAPTER_CONFIG
    advice = f"write the directory of the base model into base_model_name_or_path of {where}"
    places = (Path(config.base), directory / config.base, *_base_of_run(directory))
    local = next((path for path in places if path.is_dir()), None)
    if local is not None and is_adapter(local):
        raise DataError("the base model of these adapters is a directory of adapters", where=where, advice=advice)
    try:
        return read_directory(local) if local is not None else find_model(config.base, config.revision)
    except MissingInputError as error:
        raise MissingInputError(
            f"the base model {visible(config.base)!r} of these adapters is missing: {error.what}",
            where=where,
            advice=advice,
        ) from error


def _base_of_run(directory: Path) -> Sequence[Path]:
    """Where the run that adapters are in has its base; an export has only the name of a local base."""
    manifest = directory.parent.parent / RUN_MANIFEST
    if (directory.parent.name, directory.name) != (EXPORT, ADAPTER) or not manifest.is_file():
        return ()
    model = read_object(manifest, advice="restore the file").get("model")
    path = model.get("path") if isinstance(model, dict) else None
    return (Path(path),) if isinstance(path, str) else ()


def _required_file(directory: Path, name: str) -> Path:
    found = find_inner_file(directory, name)
    if found is None:
        raise MissingInputError(f"there is no {name} in it, which {INDEX} names", where=directory, advice=FETCH_AGAIN)
    return found


def _read_index(directory: Path) -> dict[str, str] | None:
    """Tensor -> file name, from the index of a directory; None without one. Raises DataError."""
    path = find_inner_file(directory, INDEX)
    if path is None:
        return None
    where = directory / INDEX
    found = read_object(path, advice=FETCH_AGAIN).get("weight_map")
    if not isinstance(found, dict) or not found:
        raise DataError("'weight_map' is not an object that names files", where=where, advice=FETCH_AGAIN)
    for tensor, file in found.items():
        if not isinstance(file, str) or SHARD.fullmatch(file) is None:
            raise DataError(
                f"a tensor is in {file!r}, which is not the name of a *.safetensors file of this directory",
                where=where,
                advice="other files are never opened; fetch the model in the form of safetensors",
            )
        _check_tensor(tensor, where)
    return found


def _read_header(path: Path, where: Path) -> dict[str, dict[str, Any]]:
    """Name of a tensor -> its entry in the header of a safetensors file. Raises DataError."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            text = file.read(size) if size <= LARGEST_HEADER else b""
        check_amount(text, where, FETCH_AGAIN)
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _damaged(where, "its header is not readable") from error
    except OSError as error:
        raise MissingInputError(f"the file cannot be read: {error.strerror}", where=where) from error
    if not isinstance(header, dict):
        raise _damaged(where, "its header is not readable")
    tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
    for name, entry in tensors.items():
        _check_tensor(name, where)
        shape = entry.get("shape") if isinstance(entry, dict) else None
        if not isinstance(shape, list) or not all(type(size) is int for size in shape):
            raise _damaged(where, "its header is not readable")
    return tensors


def _check_tensor(name: str, where: Path) -> None:
    """Raises DataError for a name that could not be printed as it is."""
    if TENSOR.fullmatch(name) is None:
        raise DataError(f"{name!r} is not the name of a tensor", where=where, advice=FETCH_AGAIN)


def _damaged(where: Path, reason: str) -> DataError:
    return DataError(f"cannot load the model: {reason}", where=where, advice=FETCH_AGAIN)


def _check_layers(config: CheckedConfig, tensors: int, where: Path) -> None:
    """Raises DataError for more layers than tensors: building them would take for ever, and they have no weights."""
    for key in ("num_hidden_layers", "num_layers", "n_layer", "n_layers"):
        layers = config.entries.get(key)
        if isinstance(layers, int) and layers > max(tensors, 1):
            raise DataError(
                f"{key!r} is {layers:,}, but the files hold only {tensors:,} tensors", where=where, advice=FETCH_AGAIN
            )


def _no_weights(directory: Path) -> MissingInputError | DataError:
    """Why a directory has no weights that can be read."""
    pickled = sorted(path.name for pattern in PICKLED for path in directory.glob(pattern))
    others = sorted(path.name for path in directory.glob("*.safetensors"))
    if others:
        return MissingInputError(
            f"there is neither {WEIGHTS} nor {INDEX} in it, only {others[0]!r}",
            where=directory,
            advice="model.path names a directory with a whole model, not an adapter or a part of it",
        )
    if pickled:
        return DataError(
            f"it has only pickled weights ({pickled[0]}), which could run code when opened",
            where=directory,
            advice="convert them to safetensors in a place where you trust them",
        )
    return MissingInputError(
        "there are no *.safetensors in it", where=directory, advice="model.path names a directory with weights"
    )
