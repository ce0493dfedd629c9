"""The adapter_config.json of peft: writing ours, and reading those of others.

peft has many kinds of adapters and variants of LoRA. One that is not computed here is refused by the name of its entry:
an adapter that is read without it would be another model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tunesmith.errors import DataError
from tunesmith.text.visible import visible

Task = Literal["CAUSAL_LM", "SEQ_2_SEQ_LM", "SEQ_CLS"]
CLASSIFICATION: Literal["SEQ_CLS"] = "SEQ_CLS"
TASKS: tuple[Task, ...] = ("CAUSAL_LM", "SEQ_2_SEQ_LM", CLASSIFICATION)
HEADS = ("score", "classifier")
"""What peft trains in addition to the adapters of a classification model; only the first is a layer here."""
NO_EFFECT = frozenset(
    {
        *("peft_type", "base_model_name_or_path", "revision", "task_type", "r", "lora_alpha", "use_rslora"),
        *("bias", "modules_to_save", "trainable_token_indices", "init_lora_weights", "rank_pattern"),
        *("auto_mapping", "peft_version", "inference_mode", "lora_dropout", "fan_in_fan_out", "ensure_weight_tying"),
        *("target_modules", "exclude_modules", "layers_pattern", "layers_to_transform"),  # the tensors say it
        *("megatron_core", "qalora_group_size", "runtime_config"),
    }
)
"""Entries that are checked below, or that change nothing about the model."""
LARGEST_RANK = 1 << 16
LONGEST_PATH, LONGEST_NAME = 1024, 255
"""Characters of a path, and bytes of a name in it; systems open none that is longer."""
MOST_ROWS = 1 << 24
ADVICE = "merge the adapter into its base model with peft (merge_and_unload), and name the merged model"


@dataclass(frozen=True, slots=True)
class PeftConfig:
    """The used part of an adapter_config.json.

    base: the base model, a directory or a hub name.
    revision: of the base on the hub.
    alpha, rank_stabilized: the factor of an adapter of rank r is alpha / r, or alpha / sqrt(r).
    is_classifier: whether the adapted model is a reward model.
    tokens: name of an embedding or head, or its end -> the token ids whose rows are replaced.
    """

    base: str
    revision: str | None
    alpha: float
    rank_stabilized: bool
    is_classifier: bool
    tokens: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def scale(self, rank: int) -> float:
        """The factor of the adapter of one layer. rank: of its matrices."""
        return self.alpha / (rank**0.5 if self.rank_stabilized else rank)


def check_adapter_config(content: Mapping[str, Any], where: Path) -> PeftConfig:
    """The used part of the content of an adapter_config.json.

    Raises DataError for another kind of adapter, a variant that is not supported, and values of the wrong type.
    """

    def refuse(what: str, advice: str = ADVICE) -> DataError:
        return DataError(what, where=where, advice=advice)

    if content.get("peft_type") != "LORA":
        raise refuse(f"peft_type is {_shown(content.get('peft_type'))}, and only LORA is supported")
    for key, value in content.items():
        if key not in NO_EFFECT and value not in (None, False, {}, []):
            raise refuse(f"the adapter uses {_shown(key)}, which is not supported")
    base, revision, task = (content.get(key) for key in ("base_model_name_or_path", "revision", "task_type"))
    if not isinstance(base, str) or not base:
        advice = "write the directory of the base model into base_model_name_or_path"
        raise refuse("the adapter does not name its base model", advice)
    if len(base) > LONGEST_PATH or max(len(part.encode(errors="replace")) for part in base.split("/")) > LONGEST_NAME:
        raise refuse(f"the base model {_shown(base)} has too long a name", "fetch the adapter again")
    if not (revision is None or isinstance(revision, str)):
        raise refuse(f"revision is {_shown(revision)}, but must be text", "fetch the adapter again")
    if task is not None and task not in TASKS:
        raise refuse(f"task_type is {_shown(task)}, and only {', '.join(TASKS)} are supported")
    if content.get("bias", "none") != "none":
        raise refuse(f"the adapter uses bias {_shown(content['bias'])}, which is not supported")
    if content.get("init_lora_weights", True) not in (True, False, None, "gaussian"):
        changed = _shown(content["init_lora_weights"])
        raise refuse(f"the adapter uses init_lora_weights {changed}, which changes the weights of the base")
    saved = content.get("modules_to_save") or []
    allowed = HEADS if task == CLASSIFICATION else ()
    if not isinstance(saved, list) or any(name not in allowed for name in saved):
        raise refuse(f"the adapter uses modules_to_save {_shown(saved)}, which is not supported")
    alpha, stabilized, rank = content.get("lora_alpha", 8), content.get("use_rslora", False), content.get("r", 8)
    if type(rank) is not int or not 1 <= rank <= LARGEST_RANK:
        raise refuse(f"r is {_shown(rank)}, but must be a whole number above 0", "fetch the adapter again")
    if type(alpha) not in (int, float) or not 0 < alpha < 1e9 or not math.isfinite(alpha):
        raise refuse(f"lora_alpha is {_shown(alpha)}, but must be a number above 0", "fetch the adapter again")
    if not isinstance(stabilized, bool):
        raise refuse(f"use_rslora is {_shown(stabilized)}, but must be true or false", "fetch the adapter again")
    tokens = _read_tokens(content.get("trainable_token_indices"))
    if tokens is None:
        raise refuse("trainable_token_indices does not list token ids", "fetch the adapter again")
    return PeftConfig(base, revision, float(alpha), stabilized, task == CLASSIFICATION, tokens)


def _read_tokens(value: Any) -> dict[str, tuple[int, ...]] | None:
    """Name of an embedding or head -> token ids; the name is empty for the embedding. None for anything else."""
    if value is None:
        return {}
    lists = {"": value} if isinstance(value, list) else value
    if not isinstance(lists, dict):
        return None
    for ids in lists.values():
        if not isinstance(ids, list) or not ids or not all(type(each) is int and 0 <= each < MOST_ROWS for each in ids):
            return None
        if len(set(ids)) != len(ids):
            return None
    return {str(name): tuple(ids) for name, ids in lists.items()}


def _shown(value: Any) -> str:
    text = visible(repr(value))
    return text if len(text) <= 60 else f"{text[:57]}..."
