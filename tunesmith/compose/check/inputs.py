"""What was checked, for the reader of the report: command, date, data, tokenizer, model and versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import numpy as np
from transformers import PreTrainedModel

from tunesmith.compose.components.tokenizer import tokenizer_name
from tunesmith.compose.manifest import package_versions
from tunesmith.data.dataset.prepare import Prepared
from tunesmith.data.dataset.store import Store
from tunesmith.recipe.schema import Recipe

SHOWN_VERSIONS = ("tunesmith", "torch", "transformers", "tokenizers")


def describe_recipe(recipe: Recipe, command: str) -> dict[str, Sequence[str]]:
    """What the recipe names, as the label of each line -> its values. command: the command line."""
    sources = [*recipe.data.sources, *recipe.data.validation_sources]
    keys = recipe.model
    model = f"new {keys.init['architecture']} with random weights" if keys.init is not None else str(keys.path)
    found = package_versions()
    versions = [f"{name} {found[name]}" for name in SHOWN_VERSIONS]
    return {
        "command": [command] if command else [],
        "date": [f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"],
        "data": [f"{source.name}: {source.path}" for source in sources],
        "split": [],
        "tokenizer": [tokenizer_name(recipe)],
        "text": [describe_text(recipe)],
        "model": [model],
        "objective": [recipe.objective.kind],
        "versions": [", ".join(versions)],
    }


def describe_text(recipe: Recipe) -> str:
    """Prompt format and limits of the texts."""
    text = recipe.text
    return f"format {text.format}, at most {text.max_length:,} tokens, truncation {text.truncation}"


def describe_data(recipe: Recipe, prepared: Prepared, evaluated: Prepared | None) -> Mapping[str, Sequence[str]]:
    """Every source with its records, and the parts that the records are divided into.

    prepared: the training data. evaluated: separate validation data.
    """
    lines = []
    for found, sources in ((prepared, recipe.data.sources), (evaluated, recipe.data.validation_sources)):
        for source in sources:
            if found is not None:
                counts = found.report.sources[source.name]
                lines.append(f"{source.name}: {source.path}, {counts.used:,} of {counts.records:,} records used")
    split = [_describe_part("training", prepared.train)]
    validation = prepared.validation if evaluated is None else evaluated.train
    split += [_describe_part("validation", validation)] if validation is not None else []
    split += [f"neither: {prepared.report.aside:,} records"] if prepared.report.aside else []
    return {"data": lines, "split": split}


def _describe_part(name: str, store: Store) -> str:
    targets, tokens = int(np.sum(store.targets)), int(np.sum(store.tokens))
    return f"{name}: {len(store):,} records, {targets:,} of {tokens:,} tokens are trained"


def describe_model(model: PreTrainedModel) -> str:
    """The class of a model and its size."""
    return f"{type(model).__name__}, {sum(parameter.numel() for parameter in model.parameters()):,} parameters"
