"""What a difference between two runs can explain, as one table: it names the keys that affect less than everything."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, TypeAlias

from tunesmith.apps.provenance.differences import Difference, Kind

Outcome: TypeAlias = Literal["training", "validation", "replies", "best", "speed", "export"]
"""What comes out of a run: metrics of the steps, of the validation data, of generated replies; the best checkpoint; the
time; the export."""

Effect: TypeAlias = Literal["everything", "rounding", "evaluation", "replies", "choice", "export", "speed", "nothing"]

EXPLAINED: Mapping[Effect, frozenset[Outcome]] = {
    "everything": frozenset({"training", "validation", "replies", "best", "speed", "export"}),
    "rounding": frozenset({"training", "validation", "replies", "best", "speed", "export"}),
    "evaluation": frozenset({"validation", "replies", "best", "speed"}),
    "replies": frozenset({"replies", "best", "speed"}),
    "choice": frozenset({"best", "speed", "export"}),
    "export": frozenset({"export"}),
    "speed": frozenset({"speed"}),
    "nothing": frozenset(),
}
WORDS: Mapping[Effect, str] = {
    "everything": "everything from step 1",
    "rounding": "last digits, which grow with the steps; speed",
    "evaluation": "evaluations only",
    "replies": "generated replies only",
    "choice": "which checkpoints are saved, and the best one",
    "export": "the export only",
    "speed": "speed only",
    "nothing": "nothing",
}
KEYS: Mapping[str, Effect] = {
    "name": "nothing",
    "about": "nothing",
    "card": "nothing",
    "run": "nothing",
    "run.export": "export",
    "run.export_dtype": "export",
    "sampling": "export",
    "model.path": "nothing",
    "model.revision": "nothing",
    "model.tokenizer": "nothing",
    "text.max_unknown": "nothing",
    "data.sources.*.path": "nothing",
    "data.sources.*.validation_limit": "evaluation",
    "data.validation_sources.*.path": "nothing",
    "data.validation_limit": "evaluation",
    "data.cache": "nothing",
    "data.workers": "speed",
    "evaluate": "replies",
    "data.evaluation_sets": "evaluation",
    "train.evaluate_every": "choice",
    "train.save_every": "choice",
    "train.best": "choice",
    "train.keep": "nothing",
    "train.log_every": "nothing",
    "train.stop_after": "nothing",
    "train.threads": "rounding",
    "train.shard": "rounding",
    "train.offload": "rounding",
    "train.micro_batch_tokens": "rounding",
    "train.deterministic": "rounding",
    "model.layout": "rounding",
    "model.gradient_checkpointing": "rounding",
}
"""Key of the recipe, or a section -> its effect. Every other key affects everything from step 1.

Paths affect nothing: if what they name is not the same, its digest differs, which is a difference itself.
"""
NUMBER = re.compile(r"\.[0-9]+(?=\.|$)")
KINDS: Mapping[Kind, Effect] = {"machine": "rounding", "hub": "nothing"}
"""Kind of a difference outside of the recipe -> its effect. Every other kind affects everything from step 1."""
INPUTS: Mapping[str, Effect] = {"validation.": "evaluation"}
"""Beginning of a key of the manifest -> its effect."""


def effect_of(difference: Difference) -> Effect:
    """What a difference can affect at most."""
    if difference.kind in ("recipe", "seed"):
        key = NUMBER.sub(".*", difference.key)
        starts = [start for start in KEYS if f"{key}.".startswith(f"{start}.")]
        return KEYS[max(starts, key=len)] if starts else "everything"
    for start, effect in INPUTS.items():
        if difference.key.startswith(start):
            return effect
    return KINDS.get(difference.kind, "everything")


def explains(difference: Difference, outcome: Outcome) -> bool:
    """Whether a difference can explain that an outcome is another one."""
    return outcome in EXPLAINED[effect_of(difference)]
