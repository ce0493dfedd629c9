"""The configuration files of an export, as both transformers 5 and 4.57 read them.

transformers 5 keeps the rotary settings in one entry, ``rope_parameters``, which version 4 ignores: it would compute
with the defaults of the family. The entries that version 4 reads are written too, if version 5 still reads the same
configuration with them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import CONFIG_MAPPING, AutoConfig, PretrainedConfig

from tunesmith.files import write_json
from tunesmith.model.failures import FAMILY_ERRORS

CONFIG = "config.json"
TEXT = "text_config"
ROTARY = "rope_parameters"
# Families whose version 4 has its own names: (base of the angles, share of rotated units).
ROTARY_NAMES: Mapping[str, tuple[str, str]] = {
    "gpt_neox": ("rotary_emb_base", "rotary_pct"),
    "gpt_neox_japanese": ("rotary_emb_base", "rotary_pct"),
}
# Entries that version 5 renamed and still reads under the old name.
RENAMED = ("num_experts",)
LOCAL_NAMES = ("rope_local_base_freq", "local_rope_theta")
GLOBAL_NAMES = ("rope_theta", "global_rope_theta")


def legacy_entries(config: Mapping[str, Any]) -> dict[str, Any]:
    """What version 4 reads in place of the ``rope_parameters`` and ``dtype`` of a configuration."""
    found: dict[str, Any] = {}
    if isinstance(dtype := config.get("dtype"), str):
        found["torch_dtype"] = dtype
    family = CONFIG_MAPPING[name] if (name := str(config.get("model_type"))) in CONFIG_MAPPING else PretrainedConfig
    found |= {old: config.get(new) for old, new in family.attribute_map.items() if old in RENAMED}
    rotary = config.get(ROTARY)
    if not isinstance(rotary, Mapping):
        return found
    if isinstance(inner := rotary.get("full_attention"), Mapping):
        if isinstance(local := rotary.get("sliding_attention"), Mapping):
            found |= dict.fromkeys(LOCAL_NAMES, local.get("rope_theta"))
        found |= dict.fromkeys(GLOBAL_NAMES, inner.get("rope_theta"))
        rotary = inner
    base, share = ROTARY_NAMES.get(name, ("rope_theta", "partial_rotary_factor"))
    if "rope_theta" in rotary:
        found[base] = rotary["rope_theta"]
    if "partial_rotary_factor" in rotary:
        found[share] = rotary["partial_rotary_factor"]
    scaling = {key: value for key, value in rotary.items() if key not in ("rope_theta", "partial_rotary_factor")}
    if scaling.get("rope_type") == "longrope":  # version 4 reads three entries and no others
        scaling = {
            "type": "longrope",
            **{key: scaling[key] for key in ("short_factor", "long_factor") if key in scaling},
        }
        found["rope_scaling"] = scaling
    elif scaling.get("rope_type", "default") != "default":
        found["rope_scaling"] = scaling
    return {key: value for key, value in found.items() if key not in config}


def write_config(directory: Path, entries: Mapping[str, Any]) -> None:
    """Set entries of the config.json of an export, and add those that version 4 reads. Raises StorageError."""
    path = directory / CONFIG
    config = {**json.loads(path.read_text(encoding="utf-8")), **entries}
    if isinstance(text := config.get(TEXT), dict):
        config[TEXT] = {**text, **{key: value for key, value in entries.items() if key in text}}
    write_json(path, config)
    plain = AutoConfig.from_pretrained(directory).to_dict()
    extended = {**config, **legacy_entries(config)}
    if isinstance(text := config.get(TEXT), dict):
        extended[TEXT] = {**text, **legacy_entries(text)}
    write_json(path, extended)
    try:
        read = AutoConfig.from_pretrained(directory).to_dict()
    except FAMILY_ERRORS:  # version 5 refuses them together with its own entry
        read = {}
    if not _same(read, plain):
        write_json(path, config)


def _same(found: Mapping[str, Any], plain: Mapping[str, Any]) -> bool:
    """Whether every entry of ``plain`` has the same value in ``found``."""
    return all(
        _same(found.get(key, {}), value) if isinstance(value, Mapping) and key == TEXT else found.get(key) == value
        for key, value in plain.items()
    )
