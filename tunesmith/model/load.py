"""A stock transformers model from a directory, a hub name or a list of sizes. A model directory is data: no pickle, no code."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
)

from tunesmith.errors import DataError, MissingInputError, RecipeError
from tunesmith.model.attention import register

# Names of rotary settings that published configurations use and transformers still reads into rope_parameters.
ROTARY = ("rotary_pct", "rotary_emb_base", "rope_theta", "partial_rotary_factor")
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
# Dropout comes from model.residual_dropout, whose noise belongs to the example; a model's own would depend on the batch.
OWN_DROPOUT = ("attention_dropout", "hidden_dropout", "attn_pdrop", "resid_pdrop", "embd_pdrop")


def load_model(path: str, revision: str | None = None) -> PreTrainedModel:
    """A pretrained causal model in float32, from a directory or the hub.

    Raises MissingInputError (no such directory or name, no weights) and DataError (pickled or unreadable weights).
    """
    if Path(path).is_dir():
        check_weights(Path(path))
    elif path.startswith((".", "/", "~")) or path.count("/") > 1:
        raise MissingInputError("there is no such model directory", where=path, advice="check model.path")
    name = register()
    try:
        model = AutoModelForCausalLM.from_pretrained(
            path,
            revision=revision,
            attn_implementation=name,
            dtype=torch.float32,
            use_safetensors=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())[:300]
        raise MissingInputError(
            f"cannot load the model: {reason}", where=path, advice="check the directory or hub name and the connection"
        ) from error
    return _without_own_dropout(model)


def check_weights(directory: Path) -> None:
    """A directory must hold a configuration and safetensors; weights in a pickle are refused, since opening one runs code."""
    if not (directory / "config.json").is_file():
        raise MissingInputError(
            "no config.json in it", where=directory, advice="model.path names a Hugging Face directory"
        )
    try:
        content = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"not valid JSON: {error}", where=directory / "config.json") from error
    kind = content.get("model_type") if isinstance(content, dict) else None
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        # Before transformers could ask whether to run code that the directory brings along.
        raise DataError(
            f"{kind!r} is not a causal architecture of transformers",
            where=directory / "config.json",
            advice="code in a model directory is never run",
        )
    if any(directory.glob("*.safetensors")):
        return
    pickled = sorted(path.name for pattern in PICKLED for path in directory.glob(pattern))
    if pickled:
        raise DataError(
            f"only pickled weights ({pickled[0]}), which could run code when opened",
            where=directory,
            advice="convert them to safetensors where you trust them",
        )
    raise MissingInputError(
        "no *.safetensors in it", where=directory, advice="model.path names a directory with weights"
    )


def new_model(init: Mapping[str, Any], tokens: int, seed: int) -> PreTrainedModel:
    """A model with random weights drawn from ``seed``; ``init`` holds the architecture and the sizes of its configuration.

    tokens: rows of the embedding, unless ``init`` has ``vocab_size``. Raises RecipeError on an unknown architecture or size.
    """
    sizes = {"vocab_size": tokens, **{key: value for key, value in init.items() if key != "architecture"}}
    configuration = _configuration(str(init["architecture"]), sizes)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            model = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
                configuration, attn_implementation=register()
            )
        except (ValueError, ZeroDivisionError, RuntimeError) as error:
            raise RecipeError(f"these sizes make no model: {error}", where="model.init") from error
    return _without_own_dropout(model.float())


def _configuration(architecture: str, sizes: Mapping[str, Any]) -> PretrainedConfig:
    known = [name for name, kind in CONFIG_MAPPING.items() if kind in MODEL_FOR_CAUSAL_LM_MAPPING]
    if architecture not in known:
        raise RecipeError(
            f"{architecture!r} is not a causal architecture of transformers{_nearest(architecture, known)}",
            where="model.init.architecture",
        )
    default = AutoConfig.for_model(architecture)
    allowed = [*default.to_dict(), *default.attribute_map, *ROTARY]
    for key in sizes:
        if key not in allowed:
            raise RecipeError(f"{architecture} has no such size{_nearest(key, allowed)}", where=f"model.init.{key}")
    try:
        configuration: PretrainedConfig = AutoConfig.for_model(architecture, **sizes)
    except (TypeError, ValueError, StrictDataclassError) as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise RecipeError(f"these sizes make no model: {reason}", where="model.init") from error
    return configuration


def _nearest(name: str, known: list[str]) -> str:
    found = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {found[0]!r}?" if found else ""


def _without_own_dropout(model: PreTrainedModel) -> PreTrainedModel:
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0  # type: ignore[assignment]
    return model
