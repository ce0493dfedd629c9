"""The two families of models, and which values of a recipe make sense for which.

Asked as soon as the architecture is known: for `model.init` while the recipe is read, for `model.path` once its configuration is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tunesmith.recipe.section import Problem

ENCODER_DECODERS = ("mt5", "t5")
"""Architectures (transformers' ``model_type``) that read with an encoder and write with a decoder."""

ENCODER_DECODER_FORMATS = ("t5-dolly",)
"""Prompt formats that have an input and a reply instead of one row of text."""

# Key, values that an encoder-decoder cannot use, why not and what instead.
CAUSAL_ONLY = (
    ("text.targets", ("all",), "would train the input, which {architecture} only reads; use assistant"),
    ("text.truncation", ("left", "window"), "cuts one row of text, {architecture} has two; use right or drop"),
    ("model.layout", ("tree", "threads"), "is a layout of causal models, {architecture} reads pairs; set it to auto"),
    ("objective.kind", ("reward", "ppo"), "is for causal models, {architecture} is an encoder-decoder; use sft or dpo"),
)


def family_problems(architecture: str, values: Mapping[str, object]) -> Iterator[Problem]:
    """What a recipe says that models of this architecture cannot do.

    values: dotted key -> value, of the keys that are free of other faults.
    """
    format = values.get("text.format")
    if architecture not in ENCODER_DECODERS:
        if format in ENCODER_DECODER_FORMATS:
            what = (
                f"{format!r} is for encoder-decoders ({', '.join(ENCODER_DECODERS)}), {architecture} is a causal model"
            )
            yield Problem("text.format", f"{what}; use dolly or another format")
        if values.get("text.max_target_length") is not None:
            what = f"belongs to encoder-decoders; {architecture} has one limit for the whole thread, max_length"
            yield Problem("text.max_target_length", f"{what}; set it to null")
        return
    if format is not None and format not in ENCODER_DECODER_FORMATS:
        what = f"{format!r} is for causal models, {architecture} is an encoder-decoder"
        yield Problem("text.format", f"{what}; use {' or '.join(ENCODER_DECODER_FORMATS)}")
    for key, wrong, why in CAUSAL_ONLY:
        if values.get(key) in wrong:
            yield Problem(key, f"{values[key]!r} {why.format(architecture=architecture)}")
