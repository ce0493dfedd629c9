"""The manifest of a run: versions, hashes and seeds that decide its result, and the hardware that computed it."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from tunesmith.compose.components.tokenizer import format_options
from tunesmith.compose.models.reference import find_reference
from tunesmith.data.dataset.prepare import Prepared
from tunesmith.files import fingerprint, sha256
from tunesmith.generate.export_directory import find_export
from tunesmith.recipe.schema import Recipe
from tunesmith.text.tokenizer.tokenizer import Tokenizer

PACKAGES = ("tunesmith", "torch", "transformers", "tokenizers", "safetensors", "numpy", "pyarrow")


def manifest(recipe: Recipe, prepared: Prepared, evaluated: Prepared | None, tokenizer: Tokenizer) -> dict[str, Any]:
    """Everything that decides the result of a run, and (under "hardware") where it ran.

    prepared: training data. evaluated: separate validation data.
    """
    data = {"content": prepared.content, "sources": dict(prepared.data), "report": prepared.report.as_json()}
    separate = None if evaluated is None else {"content": evaluated.content, "sources": dict(evaluated.data)}
    return {
        "recipe": {"name": recipe.name, "seed": recipe.seed},
        "data": data,
        "validation": separate,
        "tokenizer": tokenizer.fingerprint,
        "format": {"name": recipe.text.format, "options": format_options(recipe), "targets": recipe.targets},
        "model": base_model(recipe),
        "auxiliary": auxiliary_inputs(recipe),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "hardware": hardware(),
    }


def base_model(recipe: Recipe) -> Mapping[str, Any]:
    """Where the weights come from, with the hash of every weight file of a local directory."""
    keys = recipe.model
    if keys.path is None:
        return {"init": dict(keys.init or {})}
    return {"path": keys.path, "revision": keys.revision, **_weights(Path(keys.path))}


def auxiliary_inputs(recipe: Recipe) -> Mapping[str, Any]:
    """Key below ``objective`` -> path and hashes of what a run reads in addition to its model and data.

    These are a separate reference, reward models, checks, and the model of a value function; none may change while a
    run is stopped.
    """
    reference = find_reference(recipe)
    paths = {**({} if reference is None else {"reference": reference}), **recipe.objective.further_inputs}
    return {key: _hashed(path) for key, path in paths.items()}


def _hashed(name: str) -> dict[str, Any]:
    """A file with its hash, or a model directory with those of its weights; a hub name has none."""
    path = Path(name)
    if path.is_file():
        return {"path": name, "sha256": sha256(path)}
    return {"path": name, **(_weights(find_export(path)) if path.is_dir() else {})}


def _weights(directory: Path) -> dict[str, Any]:
    """The hash of every weight file of a local directory; empty for a hub name."""
    if not directory.is_dir():
        return {}
    hashes = {file.name: sha256(file) for file in (*sorted(directory.glob("*.safetensors")), directory / "config.json")}
    return {"files": hashes, "digest": fingerprint(hashes)}


def hardware() -> dict[str, Any]:
    """Processor, GPUs and threads; never the name of the machine."""
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
