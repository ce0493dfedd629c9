"""Which entries of a foreign config.json reach transformers: those that describe a model, and no others.

A configuration of transformers is more than sizes: entries of it name other files, repositories and implementations,
and an entry with the name of a method replaces the method. Known entries of the model type pass. Other entries pass if
they cannot be anything but a value that some version of the model's code looked up, since published configurations
hold many of those.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from transformers import CONFIG_MAPPING, PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from tunesmith.errors import DataError
from tunesmith.recipe.families import ENCODER_DECODERS

UNSUPPORTED = f"neither a causal architecture of transformers nor one of {', '.join(ENCODER_DECODERS)}"
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
IMPLEMENTATION = re.compile(r"_*(attn|experts)_implementation.*")
ORIGIN = ("name_or_path", "_name_or_path", "_commit_hash")
# They choose files, repositories, native code or devices. What they would choose is decided here or not at all.
IGNORED = frozenset(
    {
        *("kernel_config", "use_kernels", "fusion_config", "distributed_config", "device_map"),
        *("auto_map", "custom_pipelines", "configuration_files", "gguf_file"),
        *ORIGIN,
        *("backbone", "use_pretrained_backbone"),
    }
)
WEIGHTS = "transformers_weights"
QUANTISED = ("quantization_config", "compression_config")
PROPERTIES = ("num_labels", "output_attentions", "per_layer_config", "rope_scaling", "torch_dtype")
# They choose what a forward pass returns. Training needs the default, whatever the file asks for.
OUTPUTS: Mapping[str, bool] = {"output_attentions": False, "output_hidden_states": False, "return_dict": True}
WINDOW = "sliding_window"
NUMBER_FORMATS = ("float64", "float32", "float16", "bfloat16", "auto")
LARGEST_SIZE = 1 << 40
MOST_LABELS = 10_000
MOST_LAYERS = 10_000
LAYERS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers")
FLAGS = ("is_encoder_decoder", "is_decoder", "tie_word_embeddings", "add_cross_attention")
DISTANCES = "relative_attention_"  # of T5, which takes logarithms of them
# Numbers of modules, each of which takes time to build, even without memory.
COUNTS = re.compile(r"(num|n)_.*(layers?|experts?|heads?|blocks?|stages?|groups?)(_.*)?|depths?")


@dataclass(frozen=True, slots=True)
class CheckedConfig:
    """The part of a config.json that is used.

    architecture: the ``model_type``.
    entries: what transformers may read.
    unused: names of the other entries, without those that only say where the file came from.
    """

    architecture: str
    entries: Mapping[str, Any]
    unused: tuple[str, ...]


def check_config(content: Mapping[str, Any], where: Path) -> CheckedConfig:
    """The used part of the content of a config.json.

    Raises DataError for an unsupported architecture, quantised weights, and values that no configuration may have.
    """
    architecture = content.get("model_type")
    if not isinstance(architecture, str) or (
        architecture not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and architecture not in ENCODER_DECODERS
    ):
        raise DataError(
            f"{architecture!r} is {UNSUPPORTED}", where=where, advice="code in a model directory is never run"
        )
    _check_weights(content, where)
    kind = CONFIG_MAPPING[architecture]
    known = {field.name for field in fields(kind)} | set(kind.attribute_map) | {"model_type"}
    entries = {
        key: value for key, value in content.items() if _is_usable(key, known) and OUTPUTS.get(key, value) == value
    }
    positive = {field.name for field in fields(kind) if type(field.default) is int and field.default > 0} - {WINDOW}
    for key, value in entries.items():
        _check_value(key, value, where)
        least = 1 if key.startswith(DISTANCES) else 0
        if key in positive and not key.endswith("_id") and type(value) is int and value < least:
            what = f"{key!r} is {value:,}, but must be {least} or more"
            raise DataError(what, where=where, advice="fetch the model again")
    if WINDOW in known and content.get("use_sliding_window") is not False:
        _check_window(entries.get(WINDOW), where)
    nested = {key: _nested(value) for key, value in entries.items() if key in kind.sub_configs}
    return CheckedConfig(
        architecture, {**entries, **nested}, tuple(sorted(content.keys() - entries.keys() - {*ORIGIN}))
    )


def _is_usable(key: str, known: set[str]) -> bool:
    """Whether an entry is known, or can only be a value that code of the model reads."""
    if key in IGNORED or key in (WEIGHTS, *QUANTISED) or NAME.fullmatch(key) is None or IMPLEMENTATION.fullmatch(key):
        return False
    return key in known or key in PROPERTIES or not hasattr(PretrainedConfig, key)


def _nested(value: Any) -> Any:
    """The used part of the configuration of a part of a model, and of the parts of this part."""
    if not isinstance(value, dict):
        return value
    known = {field.name for field in fields(PretrainedConfig)} | {"model_type"}
    return {
        key: _nested(inner) if isinstance(inner, dict) and "model_type" in inner else inner
        for key, inner in value.items()
        if _is_usable(key, known)
    }


def _check_weights(content: Mapping[str, Any], where: Path) -> None:
    """Raises DataError for weights that are not plain tensors, or in a file that the configuration chooses."""
    for key in QUANTISED:
        if content.get(key) is not None:
            method = content[key].get("quant_method") if isinstance(content[key], dict) else None
            raise DataError(
                f"the weights are quantised ({key}{'' if method is None else f': {method!r}'}) and cannot be trained",
                where=where,
                advice="name the model with its original weights, in float32, bfloat16 or float16",
            )
    if content.get(WEIGHTS) is not None:
        raise DataError(
            f"{WEIGHTS} names {content[WEIGHTS]!r}, but weights are read from model.safetensors or its index only",
            where=where,
            advice=f"remove {WEIGHTS} from the file if model.safetensors holds the weights",
        )


def _check_window(size: Any, where: Path) -> None:
    """Raises DataError for a sliding window in which no token sees itself."""
    if isinstance(size, int) and size < 1:
        raise DataError(
            f"{WINDOW!r} is {size!r}, so a token would not see even itself",
            where=where,
            advice=f"set {WINDOW} in a copy of the file to the window that the model was trained with, or to null if "
            "every token sees all before it",
        )


def _check_value(key: str, value: Any, where: Path) -> None:
    """Raises DataError for a value of the wrong type or of an impossible size, of those that are used here."""
    fault = None
    if key == "architectures":
        if value is not None and not (isinstance(value, list) and all(isinstance(name, str) for name in value)):
            fault = "a list of names"
    elif key in ("dtype", "torch_dtype"):
        if value is not None and value not in NUMBER_FORMATS:
            fault = f"one of {', '.join(NUMBER_FORMATS)}"
    elif key in ("id2label", "label2id"):
        if value is not None and not (isinstance(value, dict) and len(value) <= MOST_LABELS):
            fault = f"an object with at most {MOST_LABELS:,} entries"
    elif key in FLAGS:
        if not isinstance(value, bool | None):
            fault = "true or false"
    elif key.endswith("token_id"):
        ids = value if isinstance(value, list) else [value]
        if not all(each is None or (type(each) is int and abs(each) <= LARGEST_SIZE) for each in ids):
            fault = "the id of a token"
    elif key == "num_labels" or key in LAYERS or (COUNTS.fullmatch(key) and isinstance(value, int)):
        most = MOST_LABELS if key == "num_labels" else MOST_LAYERS
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most):
            fault = f"a whole number up to {most:,}"
    elif isinstance(value, int) and abs(value) > LARGEST_SIZE:
        fault = f"at most {LARGEST_SIZE:,}"
    if fault is not None:
        shown = repr(value)
        shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
        raise DataError(f"{key!r} is {shown}, but must be {fault}", where=where, advice="fetch the model again")
