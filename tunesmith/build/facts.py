"""What a run was made with, for its manifest: versions, hashes, seeds, hardware."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from tunesmith.build.parts import format_options
from tunesmith.build.reference_model import own_reference
from tunesmith.data.prepare import Prepared
from tunesmith.files import fingerprint, sha256
from tunesmith.recipe.schema import Recipe
from tunesmith.text.tokenizer import Tokenizer

PACKAGES = ("tunesmith", "torch", "transformers", "tokenizers", "safetensors", "numpy", "pyarrow")


def manifest(recipe: Recipe, prepared: Prepared, evaluated: Prepared | None, tokenizer: Tokenizer) -> dict[str, Any]:
    """Everything that decides the result of a run, and (under "hardware") where it ran."""
    data = {"content": prepared.content, "sources": dict(prepared.data), "report": prepared.report.as_json()}
    own = None if evaluated is None else {"content": evaluated.content, "sources": dict(evaluated.data)}
    return {
        "recipe": {"name": recipe.name, "seed": recipe.seed},
        "data": data,
        "validation": own,
        "tokenizer": tokenizer.fingerprint,
        "format": {"name": recipe.text.format, "options": format_options(recipe), "targets": recipe.targets},
        "model": base_model(recipe),
        **reference_model(recipe),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "hardware": hardware(),
    }


def base_model(recipe: Recipe) -> Mapping[str, Any]:
    """Where the weights come from, with the hash of every weight file of a local directory."""
    keys = recipe.model
    if keys.path is None:
        return {"init": dict(keys.init or {})}
    return {"path": keys.path, "revision": keys.revision, **_weights(Path(keys.path))}


def reference_model(recipe: Recipe) -> Mapping[str, Any]:
    """The same of a reference of its own: what a run is compared with may not change on the way either."""
    path = own_reference(recipe)
    return {} if path is None else {"reference": {"path": path, **_weights(Path(path))}}


def _weights(directory: Path) -> dict[str, Any]:
    """The hash of every weight file of a local directory; nothing for a name of the hub."""
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
