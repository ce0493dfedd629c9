"""Models that a run reads and does not train: the reference of a KL, the reward model."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from tunesmith.errors import RecipeError
from tunesmith.generate.exported import find_export, read_export
from tunesmith.model.load import load_model
from tunesmith.model.policy import Policy
from tunesmith.text.render import Renderer
from tunesmith.text.tokenizer import Tokenizer


def frozen(model: PreTrainedModel) -> PreTrainedModel:
    """The same model, in evaluation mode and without gradients."""
    module: nn.Module = model
    module.requires_grad_(False).eval()
    return model


def frozen_copy(policy: Policy) -> Policy:
    """The policy as it is now, which no step will move. It is a second copy of the model in memory."""
    model = frozen(copy.deepcopy(policy.model))
    return Policy(model, compute=policy.compute, layout=policy.layout, temperature=policy.temperature)


def reference_of(where: str, named: str, policy: Policy, renderer: Renderer) -> Policy:
    """What the policy is compared with: ``start``, the policy as it is now, or the model of a directory.

    where: the recipe's key, for errors. Raises RecipeError (another tokenizer), MissingInputError, DataError.
    """
    if named == "start":
        return frozen_copy(policy)
    directory = find_export(named)
    refuse_other_tokens(where, directory, renderer)
    model = frozen(load_model(str(directory)))
    refuse_too_few_rows(where, model, renderer)
    module: nn.Module = model  # which moves in place
    module.to(policy.device)
    return Policy(model, compute=policy.compute, layout=policy.layout, temperature=policy.temperature)


def refuse_other_tokens(where: str, directory: Path, renderer: Renderer) -> None:
    """Raises RecipeError if the model of a directory reads other token ids, MissingInputError without a tokenizer there."""
    theirs = Tokenizer.load(str(directory), renderer.format.controls)
    if theirs.fingerprint != renderer.tokenizer.fingerprint:
        raise RecipeError(
            f"{directory} has another tokenizer than the policy, so it would read other texts",
            where=where,
            advice="use models that were trained with the same tokenizer and prompt format",
        )


def refuse_other_format(where: str, directory: Path, renderer: Renderer, options: Mapping[str, Any]) -> None:
    """Raises RecipeError if an export says that its model was trained with another prompt format than ours."""
    info = read_export(directory)
    if info is None:
        return
    theirs, ours = (info.format, dict(info.options)), (renderer.format.name, dict(options))
    if theirs != ours:
        shown = [f"{name!r}" + (f" with {given}" if given else "") for name, given in (theirs, ours)]
        raise RecipeError(
            f"{directory} was trained with prompt format {shown[0]}, the policy writes {shown[1]}",
            where=where,
            advice="use models that were trained with the same tokenizer and prompt format",
        )


def refuse_too_few_rows(where: str, model: PreTrainedModel, renderer: Renderer) -> None:
    """Raises RecipeError if the embedding of a model has no row for some token."""
    rows, needed = int(model.config.get_text_config().vocab_size), renderer.tokenizer.size
    if rows < needed:
        raise RecipeError(
            f"the model has {rows:,} token ids, prompt format and tokenizer need {needed:,}",
            where=where,
            advice="name a model that was trained with this prompt format",
        )
