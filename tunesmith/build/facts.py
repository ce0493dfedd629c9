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
from tunesmith.data.prepare import Prepared
from tunesmith.files import fingerprint, sha256
from tunesmith.generate.exported import find_export
from tunesmith.recipe.objectives import Ppo
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
        "beside": beside(recipe),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "hardware": hardware(),
    }


def base_model(recipe: Recipe) -> Mapping[str, Any]:
    """Where the weights come from, with the hash of every weight file of a local directory."""
    keys = recipe.model
    if keys.path is None:
        return {"init": dict(keys.init or {})}
    found: dict[str, Any] = {"path": keys.path, "revision": keys.revision}
    if Path(keys.path).is_dir():
        found |= _weights(Path(keys.path))
    return found


def beside(recipe: Recipe) -> Mapping[str, Any]:
    """What a run of PPO reads besides its model and data, by the recipe's key, with hashes: reward models, checks, the
    reference, what the value network begins as. Nothing for other objectives."""
    keys, found = recipe.objective, dict[str, Any]()
    if not isinstance(keys, Ppo):
        return found
    named = {f"rewards.{index}": reward.path for index, reward in enumerate(keys.rewards)}
    named |= {"reference": keys.reference, "value": keys.value}
    for key, name in named.items():
        path = Path(name)
        if path.is_file():
            found[key] = {"path": name, "sha256": sha256(path)}
        elif name not in ("start", "shared", "separate"):
            found[key] = {"path": name, **_weights(find_export(path))}
    return found


def _weights(directory: Path) -> dict[str, Any]:
    files = {file.name: sha256(file) for file in [*sorted(directory.glob("*.safetensors")), directory / "config.json"]}
    return {"files": files, "digest": fingerprint(files)}


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
