"""The manifest of a run: versions, hashes and seeds that decide its result, and the hardware that computed it."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Collection, Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

import tunesmith
from tunesmith.compose.components.tokenizer import format_options, tokenizer_name, tokenizer_revision
from tunesmith.compose.models.reference import find_reference
from tunesmith.compose.models.reference_cache import weights_digest
from tunesmith.compose.software import installed_version
from tunesmith.data.dataset.prepare import Prepared
from tunesmith.files import fingerprint, sha256
from tunesmith.generate.export_directory import find_export
from tunesmith.model.directory import COMMIT, CONFIG, find_model, read_directory
from tunesmith.model.export import ExportInfo
from tunesmith.recipe.schema import Recipe
from tunesmith.text.formats.format import Format
from tunesmith.text.tokenizer.definition import locate
from tunesmith.text.tokenizer.tokenizer import Tokenizer

PACKAGE = Path(tunesmith.__file__).parent
NO_PART_OF_RUNS = ("apps", "benchmark", "cli", "playground", "publish")
PACKAGES = ("tunesmith", "torch", "transformers", "tokenizers", "safetensors", "numpy", "pyarrow")

MAY_DIFFER = (
    "about",
    "card",
    "run",
    "sampling",
    "data.cache",
    "data.workers",
    "evaluate.show",
    "model.revision",
    "train.log_every",
    "train.offload",
    "train.replicas",
    "train.shard",
    "train.stop_after",
    "train.keep",
    "train.epochs",
    "train.steps",
    "train.patience",
)
"""Keys that may change when a run is continued, since they do not affect the steps that are done already.

A revision is only a name of weights and tokenizer, whose digests in the manifest may not change.
"""

EXCHANGEABLE: Mapping[str, Collection[str]] = {"train.weights": ("float32", "split")}
"""Key -> values that may replace each other when a run is continued.

Both forms hold the same float32 numbers, so a checkpoint of either is read as the other. ``auto`` is split for one
process on a GPU and float32 for several that divide the weights.
"""

EARLIER: Mapping[str, str | bool] = {
    **{"train.weights": "float32", "train.gradients": "float32", "train.moments": "float32"},
    "train.deterministic": True,
    "train.shard": "none",
}
"""Keys that recipes of earlier versions do not have -> how these versions trained."""

MANIFEST_MAY_DIFFER = ("hardware", "versions", "hub", "model.revision")
"""Keys of the manifest that may change. What a hub name means may, as long as the digests of what was read do not."""

REMEDIES: Mapping[str, str] = {
    "code": "the code of Tunesmith has changed: install the version that started the run, or set "
    "run.allow_code_change=true to continue with this one",
    "model.files": "the files of the model have changed: if it is a hub name, set model.revision to the commit that is "
    "listed under hub in manifest.json",
}
"""Key of the manifest -> what to do where it has changed."""


def manifest(
    recipe: Recipe, prepared: Prepared, evaluated: Prepared | None, tokenizer: Tokenizer, processes: int
) -> dict[str, Any]:
    """Everything that decides the result of a run, and (under "hardware") where it ran.

    prepared: training data. evaluated: separate validation data.
    processes: that train together.
    """
    data = {"content": prepared.content, "sources": dict(prepared.data), "report": prepared.report.as_json()}
    separate = None if evaluated is None else {"content": evaluated.content, "sources": dict(evaluated.data)}
    return {
        "recipe": {"name": recipe.name, "seed": recipe.seed},
        "data": data,
        "validation": separate,
        **text_inputs(recipe, tokenizer),
        "model": base_model(recipe),
        "auxiliary": auxiliary_inputs(recipe),
        "hub": hub_commits(recipe),
        "code": code_digest(),
        "versions": {"python": platform.python_version(), **package_versions()},
        "hardware": hardware(recipe.train.deterministic, processes),
    }


def base_model(recipe: Recipe) -> Mapping[str, Any]:
    """Where the weights come from, with the hash of every file that is opened."""
    keys = recipe.model
    if keys.path is None:
        return {"init": dict(keys.init or {})}
    return {"path": keys.path, "revision": keys.revision, **find_model(keys.path, keys.revision).identity()}


def text_inputs(recipe: Recipe, tokenizer: Tokenizer) -> Mapping[str, Any]:
    """What decides the tokens of a message."""
    return {
        "tokenizer": tokenizer.fingerprint,
        "format": {"name": recipe.text.format, "options": format_options(recipe), "targets": recipe.targets},
    }


def find_changed_input(recorded: Mapping[str, Any], recipe: Recipe, tokenizer: Tokenizer) -> str | None:
    """What the model of a checkpoint is built with and is not as when its run began; None if nothing has changed.

    The weights of the base model count for adapters only; otherwise those of the checkpoint replace them.
    recorded: the manifest of the run.
    """
    now: dict[str, Any] = json.loads(json.dumps(text_inputs(recipe, tokenizer)))
    for key, value in now.items():
        if recorded.get(key) != value:
            return key
    keys = recipe.model
    if keys.path is None:
        return None
    if keys.adapter is not None:
        same = recorded.get("model", {}).get("digest") == find_model(keys.path, keys.revision).identity()["digest"]
        return None if same else "base model"
    files = recorded.get("model", {}).get("files", {})
    config = sha256(find_model(keys.path, keys.revision).files[CONFIG])
    return None if files.get(CONFIG) == config else "configuration of the base model"


def hub_commits(recipe: Recipe) -> Mapping[str, str]:
    """Hub name -> the commit that it means now, of the model, its tokenizer and the reference.

    A data set of the hub is compared by the digest of its rows.
    """
    commits = {}
    reference = find_reference(recipe)
    for path, revision in ((recipe.model.path, recipe.model.revision), (reference, None)):
        if path is not None and (commit := find_model(path, revision).commit) is not None:
            commits[path] = commit
    tokenizer = tokenizer_name(recipe)
    if COMMIT.fullmatch(commit := locate(tokenizer, tokenizer_revision(recipe)).name):
        commits.setdefault(tokenizer, commit)
    return commits


def auxiliary_inputs(recipe: Recipe) -> Mapping[str, Any]:
    """Key below ``objective`` -> path and hashes of what a run reads in addition to its model and data.

    These are a separate reference, reward models, checks, and the model of a value function; none may change while a
    run is stopped.
    """
    reference = find_reference(recipe)
    paths = {**({} if reference is None else {"reference": reference}), **recipe.objective.further_inputs}
    return {key: _hashed(path) for key, path in paths.items()}


def _hashed(name: str) -> dict[str, Any]:
    """A file with its hash, or a model with those of the files that are opened."""
    path = Path(name)
    if path.is_file():
        return {"path": name, "sha256": sha256(path)}
    found = read_directory(find_export(path)) if path.is_dir() else find_model(name)
    return {"path": name, **found.identity()}


def export_origin(
    model: PreTrainedModel, tokenizer: Tokenizer, format: Format, info: ExportInfo, dtype: str, *, with_pipeline: bool
) -> str:
    """Digest of everything that an export is made from: weights, tokenizer, prompt format, description and code.

    dtype: the data type of the exported weights.
    with_pipeline: whether it brings the code of a pipeline.
    """
    return fingerprint(
        {
            "weights": weights_digest(model),
            "config": model.config.to_dict(),
            "tokenizer": tokenizer.fingerprint,
            "template": format.chat_template(),
            "info": asdict(info),
            "dtype": dtype,
            "with_pipeline": with_pipeline,
            "code": code_digest(),
            "versions": package_versions(),
        }
    )


@cache
def code_digest(package: Path = PACKAGE) -> str:
    """Digest of the source files of Tunesmith that a run uses; commands that read finished runs are left out."""
    files = [
        path for path in sorted(package.rglob("*.py")) if path.relative_to(package).parts[0] not in NO_PART_OF_RUNS
    ]
    return fingerprint({str(path.relative_to(package)): sha256(path) for path in files})


def hardware(deterministic: bool, processes: int) -> dict[str, Any]:
    """Processor, GPUs and threads; never the name of the machine.

    deterministic: whether only algorithms are used on a GPU that give the same bits every time. On a CPU there are no
        others. Dropout on a GPU depends on its model, so that another one gives other noise.
    processes: that train together.
    """
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        **({"processes": processes} if processes > 1 else {}),
        "gpus": gpus,
        "deterministic": deterministic or not gpus,
    }


def package_versions() -> Mapping[str, str | None]:
    """The versions of the packages that compute the result of a run; None for one that is not installed."""
    return {name: installed_version(name) for name in PACKAGES}
