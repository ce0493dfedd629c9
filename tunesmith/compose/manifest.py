"""What a run was made with, for its manifest: versions, hashes, seeds, hardware."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from tunesmith.compose.models.reference import own_reference
from tunesmith.compose.parts import format_options
from tunesmith.data.dataset.prepare import Prepared
from tunesmith.files import fingerprint, sha256
from tunesmith.generate.export_directory import find_export
from tunesmith.recipe.objectives import DpoConfig, PpoConfig
from tunesmith.recipe.schema import Recipe
from tunesmith.text.tokenizer.tokenizer import Tokenizer

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
        "beside": beside(recipe),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "hardware": hardware(),
    }


def base_model(recipe: Recipe) -> Mapping[str, Any]:
    """Where the weights come from, with the hash of every weight file of a local directory."""
    keys = recipe.model
    if keys.path is None:
        return {"init": dict(keys.init or {})}
    return {"path": keys.path, "revision": keys.revision, **_weights(Path(keys.path))}


def beside(recipe: Recipe) -> Mapping[str, Any]:
    """What a run reads besides its model and data, by the objective's key, with hashes: none of it may change on the way.

    A reference of its own, reward models, checks, what a value network begins as.
    """
    keys, named = recipe.objective, dict[str, str | None]()
    if isinstance(keys, DpoConfig | PpoConfig):
        named["reference"] = own_reference(recipe)
    if isinstance(keys, PpoConfig):
        named |= {f"rewards.{index}": reward.path for index, reward in enumerate(keys.rewards)}
        named["value"] = None if keys.value in ("shared", "separate") else keys.value
    return {key: _named(name) for key, name in named.items() if name is not None}


def _named(name: str) -> dict[str, Any]:
    """A file with its hash, or a model directory with those of its weights; of a name of the hub nothing more is known."""
    path = Path(name)
    if path.is_file():
        return {"path": name, "sha256": sha256(path)}
    return {"path": name, **(_weights(find_export(path)) if path.is_dir() else {})}


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
