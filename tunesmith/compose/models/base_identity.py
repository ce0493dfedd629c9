"""Which base the adapters of a checkpoint belong to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from tunesmith.errors import StorageError
from tunesmith.files import read_object
from tunesmith.model.adapters import CHILD
from tunesmith.recipe.schema import Recipe
from tunesmith.train.run.checkpoint_files import Checkpoint
from tunesmith.train.run.directory import MANIFEST

BASE = "base"


def random_base(recipe: Recipe, model: nn.Module) -> str:
    """The digest of the random weights that adapters are trained on; empty for other models.

    model: whole, before its weights are divided among processes.
    """
    return frozen_digest(model) if recipe.model.adapter is not None and recipe.model.path is None else ""


def base_facts(recipe: Recipe, random: str, run: Path) -> dict[str, str]:
    """What a checkpoint of adapters says about their base, as an entry ``BASE``; nothing for a model without adapters.

    It is the digest of the files of the base, which the manifest of the run has already, or of random weights.
    random: as ``random_base`` returns it.
    run: its directory.
    """
    if recipe.model.adapter is None:
        return {}
    if recipe.model.path is None:
        return {BASE: random}
    return {BASE: str(read_object(run / MANIFEST, advice="restore the file")["model"]["digest"])}


def check_base(found: Checkpoint, facts: Mapping[str, str]) -> None:
    """Raises StorageError if the adapters of a checkpoint belong to another base. facts: of the present model."""
    if found.facts.get(BASE) != facts.get(BASE):
        raise StorageError(
            "the adapters of this checkpoint were trained on another base model",
            where=found.path,
            advice="restore the base model that the run was started with",
        )


def frozen_digest(model: nn.Module) -> str:
    """Digest of the frozen weights outside of adapted layers, whose format differs, rounded to bfloat16.

    All random weights are drawn one after the other, so none of these is the same where another one differs.
    """
    digest = hashlib.blake2b(digest_size=16)
    for prefix, module in sorted(model.named_modules()):
        if hasattr(module, CHILD) and not isinstance(module, nn.Embedding):
            continue
        for name, parameter in sorted(module.named_parameters(recurse=False)):
            if not parameter.requires_grad:
                digest.update(f"{prefix}.{name}/{tuple(parameter.shape)}".encode())
                values = parameter.detach().bfloat16().contiguous().cpu()
                digest.update(values.view(torch.uint8).numpy().data)
    return digest.hexdigest()
